//! Each cause planted in fixed samples, one a second, and what is no cause.

use serde_json::{Value, json};

use super::super::sample::tests::sample;
use super::*;
use crate::value::Lsn;

/// Nine samples of a replication that has nothing to do, each changed by `plant`.
fn planted(survey: &Survey, plant: impl Fn(&mut Sample, u64)) -> Vec<Cause> {
    let samples: Vec<Timed> = (0..9_u32)
        .map(|second| {
            let mut sample = sample();
            let publisher = sample.publisher.as_mut().unwrap();
            publisher.walsenders[0].waits = waits("Client", "WalSenderWaitForWAL");
            publisher.rows = serde_json::from_value(rows(7)).unwrap();
            let subscriber = sample.subscriber.as_mut().unwrap();
            subscriber.workers[0].waits = waits("Activity", "LogicalApplyMain");
            subscriber.unready.clear();
            sample.tables = None;
            plant(&mut sample, u64::from(second));
            Timed {
                at: f64::from(second),
                sample,
            }
        })
        .collect();
    causes(&samples, survey)
}

fn rows(updated: u64) -> Value {
    json!({"tup_inserted": 0, "tup_updated": updated, "tup_deleted": 0})
}

fn waits(kind: &str, event: &str) -> Waits {
    Waits {
        wait_event_type: Some(kind.into()),
        wait_event: Some(event.into()),
    }
}

fn apply(sample: &mut Sample) -> &mut Worker {
    &mut sample.subscriber.as_mut().unwrap().workers[0]
}

fn walsender(sample: &mut Sample) -> &mut Walsender {
    &mut sample.publisher.as_mut().unwrap().walsenders[0]
}

#[track_caller]
fn is(found: &[Cause], kind: CauseKind, words: &str) {
    let first = found.first().map(|it| (it.cause, it.message.as_str()));
    assert_eq!(first, Some((kind, words)));
}

#[test]
fn idle_is_the_publisher_that_changes_nothing() {
    let found = planted(&Survey::default(), |_, _| ());
    let words = "nothing is slow: the publisher sends nothing, since no row of \"shop\" has changed there for 8 s";
    is(&found, CauseKind::PublisherIdle, words);
    // It writes, and all is well: no cause at all.
    let found = planted(&Survey::default(), |it, second| {
        it.publisher.as_mut().unwrap().rows = serde_json::from_value(rows(second)).unwrap();
    });
    assert_eq!(found, []);
}

#[test]
fn a_single_sample_says_nothing() {
    let one = Timed {
        at: 0.0,
        sample: sample(),
    };
    assert_eq!(causes(&[one], &Survey::default()), []);
}

#[test]
fn a_lock_is_named_with_its_table_and_its_holder() {
    let lock = |it: &mut Sample| {
        let worker = apply(it);
        worker.waits = waits("Lock", "relation");
        worker.locked_table = Some("public.acc".into());
        worker.blockers = serde_json::from_value(json!([
            {"pid": 7, "usename": "app", "state": "idle in transaction", "seconds": 42.3}
        ]))
        .unwrap();
    };
    let found = planted(&Survey::default(), |it, _| lock(it));
    let words = "apply waits for a lock on public.acc, held on the subscriber by pid 7 (user app, idle in transaction for 42 s)";
    is(&found, CauseKind::WaitsForLock, words);
    // Passing: not in the sample before.
    let found = planted(&Survey::default(), |it, second| {
        if second == 8 {
            lock(it);
        }
    });
    assert_eq!(
        found.iter().find(|it| it.cause == CauseKind::WaitsForLock),
        None
    );
    let found = planted(&Survey::default(), |it, _| {
        let mut copy = apply(it).clone();
        lock(it);
        std::mem::swap(&mut copy, apply(it));
        copy.table = Some("public.big".into());
        copy.waits = waits("Lock", "transactionid");
        copy.blockers[0].pid = 0;
        it.subscriber.as_mut().unwrap().workers.push(copy);
    });
    let words = "the copy of public.big waits for a row of public.acc, held on the subscriber by a prepared transaction";
    is(&found, CauseKind::WaitsForLock, words);
}

#[test]
fn a_table_without_index_is_named() {
    let survey = Survey {
        unindexed: vec!["public.hist".into()],
        ..Survey::default()
    };
    let plant = |it: &mut Sample| {
        apply(it).waits = Waits::default();
        apply(it).changes = vec!["public.acc".into(), "public.hist".into()];
        apply(it).xact_seconds = Some(1.0);
    };
    let found = planted(&survey, |it, _| plant(it));
    let words = "apply changes public.hist, which has REPLICA IDENTITY FULL and no usable index on the subscriber: each row is found by reading the whole table";
    is(&found, CauseKind::NoUsableIndex, words);
    assert!(planted(&Survey::default(), |it, _| plant(it)).is_empty());
    // Rows that come need no index.
    let found = planted(&survey, |it, second| {
        plant(it);
        it.subscriber.as_mut().unwrap().rows = Some(super::super::sample::RowCounts {
            tup_inserted: second * 1000,
            tup_updated: 0,
            tup_deleted: 0,
        });
    });
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn a_huge_transaction_is_found_while_it_is_applied() {
    let found = planted(&Survey::default(), |it, second| {
        apply(it).waits = Waits::default();
        apply(it).xact_seconds = Some(20.0 + second as f64);
        apply(it).changes = vec!["public.acc".into()];
        it.subscriber.as_mut().unwrap().wal_insert_lsn = Some(Lsn(second << 20));
    });
    let words = "one huge transaction in public.acc has been applied on the subscriber for 28 s, about 28 MB of WAL there so far";
    is(&found, CauseKind::HugeTransactionApplied, words);
}

#[test]
fn a_huge_transaction_is_found_while_it_is_decoded() {
    let found = planted(&Survey::default(), |it, second| {
        walsender(it).waits = waits("IO", "ReorderBufferWrite");
        it.publisher.as_mut().unwrap().slots[1].decoding = serde_json::from_value(
            json!({"spill_bytes": second << 25, "stream_bytes": 0, "total_bytes": 0}),
        )
        .unwrap();
    });
    let words = "one huge transaction is being decoded on the publisher: 256 MB of it went to disk within 8 s, 256 MB since the slot's statistics began";
    is(&found, CauseKind::HugeTransactionDecoded, words);
    // Before 14 nobody counts what goes to disk.
    let found = planted(&Survey::default(), |it, _| {
        walsender(it).waits = waits("IO", "ReorderBufferWrite");
        it.lag.as_mut().unwrap().unsent_bytes = 1 << 30;
    });
    let words = "one huge transaction is being decoded on the publisher: walsender 7 is at 0/3000000, 1.0 GB before the end of the WAL";
    is(&found, CauseKind::HugeTransactionDecoded, words);
    // It has not ended yet.
    let found = planted(&Survey::default(), |it, second| {
        let publisher = it.publisher.as_mut().unwrap();
        publisher.current_wal_lsn = Lsn((1 << 30) + (second << 24));
        publisher.old_transactions = vec![open_for(second as f64)];
    });
    let words = "one huge transaction is being decoded on the publisher, and sent when it ends: pid 77 (user app, database shop, active, open for 8 s), 128 MB of WAL within 8 s";
    is(&found, CauseKind::HugeTransactionDecoded, words);
}

fn open_for(seconds: f64) -> super::super::sample::OldTransaction {
    serde_json::from_value(json!({
        "pid": 77, "gid": null, "usename": "app", "datname": "shop", "state": "active", "seconds": seconds
    }))
    .unwrap()
}

#[test]
fn a_long_transaction_is_named_with_its_session() {
    let found = planted(&Survey::default(), |it, _| {
        it.publisher.as_mut().unwrap().old_transactions = vec![open_for(4000.0)];
    });
    let words = "a long transaction on the publisher holds slot \"of_sub\" back, which keeps 16 MB: pid 77 (user app, database shop, active, open for 67 min)";
    is(&found, CauseKind::LongTransaction, words);
    let found = planted(&Survey::default(), |it, _| {
        it.publisher.as_mut().unwrap().old_transactions = vec![open_for(1.0)];
    });
    is(&found, CauseKind::PublisherIdle, &found[0].message.clone());
}

#[test]
fn tables_that_wait_for_a_worker_are_counted_with_the_setting() {
    let plant = |it: &mut Sample, max_sync: u64, running: u64| {
        let subscriber = it.subscriber.as_mut().unwrap();
        subscriber.table_states.insert("i".into(), 5);
        subscriber.worker_slots = super::super::sample::Workers {
            running,
            max_sync_workers_per_subscription: max_sync,
            max_logical_replication_workers: 4,
            max_worker_processes: 8,
        };
        let sync = Worker {
            pid: 12,
            table: Some("public.big".into()),
            ..Worker::default()
        };
        subscriber.workers.push(sync);
    };
    let found = planted(&Survey::default(), |it, _| plant(it, 1, 2));
    let words = "5 tables wait for a sync worker: 1 copy at once, as max_sync_workers_per_subscription = 1 of the subscriber allows";
    is(&found, CauseKind::CopyWaitsForWorkers, words);
    let found = planted(&Survey::default(), |it, _| plant(it, 2, 4));
    let words = "5 tables wait for a sync worker: all 4 of the subscriber's max_logical_replication_workers are taken, 2 of them by other subscriptions";
    is(&found, CauseKind::CopyWaitsForWorkers, words);
}

#[test]
fn the_disk_and_the_network_are_found_by_who_waits_for_what() {
    let found = planted(&Survey::default(), |it, second| {
        if second % 4 != 0 {
            apply(it).waits = waits("IO", "DataFileRead");
        }
    });
    let words = "the disk of the subscriber is the limit: its workers waited for it in 67 % of the last looks (DataFileRead)";
    is(&found, CauseKind::SubscriberDisk, words);
    let found = planted(&Survey::default(), |it, _| {
        walsender(it).waits = waits("Client", "WalSenderWriteData");
        it.lag_bytes = Some(50 << 20);
    });
    let words = "the network between the servers is the limit: the publisher waits to send while the subscriber waits for data (0 B/s confirmed)";
    is(&found, CauseKind::Network, words);
    let found = planted(&Survey::default(), |it, _| {
        apply(it).silent_seconds = Some(25.0);
        it.lag_bytes = Some(50 << 20);
    });
    let words = "the network: nothing has come from the publisher for 25 s, and 50 MB wait there";
    is(&found, CauseKind::Network, words);
}

#[test]
fn a_server_that_was_away_is_no_cause() {
    // Its workers ended with it, and nothing is said of what is not seen.
    let restarted = |it: &mut Sample, second: u64| {
        apply(it).pid = if second < 4 { 100 } else { 200 };
        it.lag_bytes = Some(1 << 10);
        if second == 4 {
            it.subscriber = None;
        }
    };
    let found = planted(&Survey::default(), restarted);
    assert!(
        found.iter().all(|it| it.cause == CauseKind::PublisherIdle),
        "{found:?}"
    );
    let found = planted(&Survey::default(), |it, second| {
        if second > 6 {
            it.subscriber = None;
        }
    });
    assert_eq!(found, []);
}

#[test]
fn a_worker_whose_failure_is_over_is_no_cause() {
    let anew = |lag: u64, ready: bool| {
        planted(&Survey::default(), move |it, second| {
            apply(it).pid = if second < 4 { 100 } else { 200 };
            it.lag_bytes = Some(lag);
            if !ready {
                let unready = sample().subscriber.unwrap().unready;
                it.subscriber.as_mut().unwrap().unready = unready;
            }
        })
    };
    let restarts = |found: &[Cause]| found.iter().any(|it| it.cause == CauseKind::WorkerRestarts);
    assert!(!restarts(&anew(0, true)));
    // Something has not come yet, or a table is not copied.
    assert!(restarts(&anew(1, true)));
    assert!(!sample().subscriber.unwrap().unready.is_empty());
    assert!(restarts(&anew(0, false)));
}

#[test]
fn a_worker_that_restarts_is_counted() {
    let found = planted(&Survey::default(), |it, second| {
        apply(it).pid = 100 + i32::try_from(second / 3).unwrap();
    });
    let words = "the apply worker of \"sub\" ended and was started again 2 times within 8 s";
    is(&found, CauseKind::WorkerRestarts, words);
    let found = planted(&Survey::default(), |it, _| {
        it.subscriber.as_mut().unwrap().workers.clear();
    });
    let words = "no apply worker of \"sub\" has run for 8 s though it is enabled";
    is(&found, CauseKind::WorkerRestarts, words);
    let found = planted(&Survey::default(), |it, second| {
        it.subscriber.as_mut().unwrap().errors = serde_json::from_value(
            json!({"apply_error_count": 3 + second / 8, "sync_error_count": 0}),
        )
        .unwrap();
    });
    is(
        &found,
        CauseKind::WorkerRestarts,
        "the workers of \"sub\" failed once within 8 s",
    );
}

#[test]
fn apply_that_never_rests_is_the_limit_itself() {
    let found = planted(&Survey::default(), |it, second| {
        apply(it).waits = Waits::default();
        walsender(it).waits = waits("Client", "WalSenderWriteData");
        it.lag_bytes = Some((20 + second) << 20);
    });
    assert_eq!(found[0].cause, CauseKind::ApplyBusy, "{found:?}");
}
