//! Publisher and subscriber: roles of two verified servers, given once per run.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::Arc;

use super::session::Session;
use super::verified::{Server, Side, is_identity_mismatch};
use crate::config::Config;
use crate::error::{Failure, Result, message_of};

/// The server whose changes are replicated.
#[derive(Clone, Debug)]
pub(crate) struct Publisher(Arc<Server>);

/// The server that replicates them.
#[derive(Clone, Debug)]
pub(crate) struct Subscriber(Arc<Server>);

impl Subscriber {
    /// The same server as the one that data comes from.
    pub(crate) fn as_publisher(&self) -> Publisher {
        Publisher(self.0.clone())
    }
}

impl Publisher {
    /// The same server as the one that data flows to.
    pub(crate) fn as_subscriber(&self) -> Subscriber {
        Subscriber(self.0.clone())
    }

    /// A server that the journal says is the publisher.
    pub(crate) fn from_journal(server: Server) -> Publisher {
        Publisher(Arc::new(server))
    }
}

impl Deref for Publisher {
    type Target = Server;
    fn deref(&self) -> &Server {
        &self.0
    }
}

impl Deref for Subscriber {
    type Target = Server;
    fn deref(&self) -> &Server {
        &self.0
    }
}

/// Both servers, proven.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) publisher: Publisher,
    pub(crate) subscriber: Subscriber,
}

impl Pair {
    /// The same two servers for data that flows the other way.
    pub(crate) fn reversed(&self) -> Pair {
        Pair {
            publisher: self.subscriber.as_publisher(),
            subscriber: self.publisher.as_subscriber(),
        }
    }

    /// Whether the administrator's session still answers on either server.
    pub(crate) fn answers(&self) -> bool {
        let (publisher, subscriber) = at_once(
            || self.publisher.answers(),
            || Ok(self.subscriber.answers()),
        );
        publisher && matches!(subscriber, Ok(true))
    }

    /// A lent session of the administrator in the database on either server, opened at once where they are new.
    pub(crate) fn visit(&self, dbname: &str) -> Result<(Arc<Session>, Arc<Session>)> {
        let (publisher, subscriber) = at_once(
            || self.publisher.visit(dbname),
            || self.subscriber.visit(dbname),
        );
        Ok((publisher?, subscriber?))
    }
}

/// Two looks at the same time, of two servers: one thread waits for each.
pub(crate) fn at_once<A, B: Send>(
    here: impl FnOnce() -> A,
    there: impl FnOnce() -> Result<B> + Send,
) -> (A, Result<B>) {
    std::thread::scope(|scope| {
        let there = scope.spawn(there);
        let here = here();
        let there = there
            .join()
            .unwrap_or_else(|_| Failure::new("look at a server: its thread has ended").err());
        (here, there)
    })
}

/// What came of opening both; each for itself, since some commands can do with one.
pub(crate) struct Opened {
    pub(crate) publisher: Result<Publisher>,
    pub(crate) subscriber: Result<Subscriber>,
}

/// Opens both servers at once.
pub(crate) fn open_both(config: &Config, application_name: &str) -> Opened {
    open_both_visiting(config, application_name, &BTreeSet::new())
}

/// Opens both servers, and the sessions that will look into these databases, all at once.
pub(crate) fn open_both_visiting(
    config: &Config,
    application_name: &str,
    dbnames: &BTreeSet<&str>,
) -> Opened {
    let open =
        |side: Side| Server::open_visiting(side, side.host(config), application_name, dbnames);
    let (publisher, subscriber) = at_once(|| open(Side::Publisher), || open(Side::Subscriber));
    Opened {
        publisher: publisher.map(Publisher::from_journal),
        subscriber: subscriber.map(|server| Subscriber(Arc::new(server))),
    }
}

impl From<Pair> for Opened {
    fn from(pair: Pair) -> Opened {
        Opened {
            publisher: Ok(pair.publisher),
            subscriber: Ok(pair.subscriber),
        }
    }
}

impl Opened {
    /// Both, or the first error.
    pub(crate) fn both(self) -> Result<Pair> {
        match (self.publisher, self.subscriber) {
            (Ok(publisher), Ok(subscriber)) => Ok(Pair {
                publisher,
                subscriber,
            }),
            // Another server is worse than a server that does not answer.
            (Err(one), Err(other))
                if is_identity_mismatch(&other) && !is_identity_mismatch(&one) =>
            {
                Err(other)
            }
            (Err(one), _) => Err(one),
            (_, Err(other)) => Err(other),
        }
    }

    /// At least one of them; the wrong server on either side is an error.
    pub(crate) fn any(self) -> Result<Opened> {
        let errors = [
            self.publisher.as_ref().err(),
            self.subscriber.as_ref().err(),
        ];
        let strange = errors
            .iter()
            .flatten()
            .any(|report| is_identity_mismatch(report));
        if strange || errors.iter().all(Option::is_some) {
            self.both().map(Opened::from)
        } else {
            Ok(self)
        }
    }

    /// The subscriber, and the publisher or why it cannot be reached; the wrong server on either side is an error.
    pub(crate) fn subscriber_first(self) -> Result<(Subscriber, Result<Publisher>)> {
        match (self.publisher, self.subscriber) {
            (Err(mismatch), _) if is_identity_mismatch(&mismatch) => Err(mismatch),
            (publisher, subscriber) => Ok((subscriber?, publisher)),
        }
    }

    /// The publisher, and the subscriber or why it cannot be reached; the wrong server on either side is an error.
    pub(crate) fn publisher_first(self) -> Result<(Publisher, Result<Subscriber>)> {
        match (self.publisher, self.subscriber) {
            (_, Err(mismatch)) if is_identity_mismatch(&mismatch) => Err(mismatch),
            (publisher, subscriber) => Ok((publisher?, subscriber)),
        }
    }

    /// The publisher; a subscriber that cannot be reached is only a warning, one that is the wrong server is not.
    pub(crate) fn publisher(self) -> Result<Publisher> {
        match &self.subscriber {
            Err(report) if is_identity_mismatch(report) => {
                return self.both().map(|pair| pair.publisher);
            }
            Err(report) => log::warn!("{}", message_of(report)),
            Ok(_) => {}
        }
        self.publisher
    }

    /// The subscriber; a publisher that cannot be reached is only a warning, one that is the wrong server is not.
    pub(crate) fn subscriber(self) -> Result<Subscriber> {
        match &self.publisher {
            Err(report) if is_identity_mismatch(report) => {
                return self.both().map(|pair| pair.subscriber);
            }
            Err(report) => log::warn!("{}", message_of(report)),
            Ok(_) => {}
        }
        self.subscriber
    }
}
