//! The most memory that a large schema makes flare itself take.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use crate::support::Pair;

const MB: u64 = 1024 * 1024;
const SQL_BYTES: u64 = 50 * MB;
const BODY_BYTES: u64 = 10_000;
const LIMIT_BYTES: u64 = 200 * MB;

pub fn measure(old: u32, new: u32) {
    let pair = Pair::alone(old, new);
    pair.create_roles_on(pair.subscriber());
    let functions = SQL_BYTES / BODY_BYTES;
    // Bodies that do not compress, since pg_dump writes them as they are anyway.
    pair.publisher().sql(
        pair.db(),
        &format!(
            "DO $do$ BEGIN
               FOR i IN 1..{functions} LOOP
                 EXECUTE format('CREATE FUNCTION f%s() RETURNS text LANGUAGE sql AS $f$ SELECT %L $f$', i,
                     (SELECT string_agg(md5((i * 1000 + n)::text), chr(10)) FROM generate_series(1, {BODY_BYTES} / 33) n));
               END LOOP;
             END $do$"
        ),
    );
    for what in ["loaded", "compared"] {
        let peak = peak_of(&pair, &["replicate_schema", pair.db()]);
        println!(
            "flare replicate_schema, {} MB of SQL {what}\n    peak memory {} MB; goal below {} MB{}",
            SQL_BYTES / MB,
            peak / MB,
            LIMIT_BYTES / MB,
            if peak < LIMIT_BYTES { "" } else { " MISSED" }
        );
    }
}

/// The largest peak that was seen of a run that must succeed.
pub fn peak_of(pair: &Pair, args: &[&str]) -> u64 {
    peak_of_ending(pair, args, 0)
}

/// The largest peak that was seen of a run that ends with this code: the kernel keeps it until the process has gone.
pub fn peak_of_ending(pair: &Pair, args: &[&str], code: i32) -> u64 {
    let running = pair.spawn(args);
    let mut peak = 0;
    while !running.has_ended() {
        peak = peak.max(high_water_mark(running.pid()).unwrap_or(0));
        sleep(Duration::from_millis(2));
    }
    running.wait().code(code);
    peak
}

/// `VmHWM` of /proc, in bytes.
fn high_water_mark(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024)
}
