//! A network between flare and a server, which a test can freeze, thaw and cut.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::Pair;
use super::application::Side;

/// What passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Traffic {
    Everything,
    /// What the client sends arrives; what the server answers does not, until the thaw.
    Requests,
    /// Nothing, in either direction; connections stay open and new ones are accepted.
    Nothing,
}

/// Which way a pump carries bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    ToServer,
    ToClient,
}

/// What has passed at once.
pub struct Passed {
    /// The port of its server, and which of the connections there.
    pub connection: (u16, usize),
    pub way: Way,
    pub text: String,
}

/// What has passed, of all proxies that share it, in order.
#[derive(Clone, Default)]
pub struct Record(Arc<Mutex<Vec<Passed>>>);

impl Record {
    /// What has passed so far.
    pub fn taken(&self) -> Vec<Passed> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A port of this machine that leads to a server. Dropped, it cuts every connection.
pub struct Proxy {
    port: u16,
    road: Arc<Road>,
}

struct Road {
    server: u16,
    /// How long each byte is on its way.
    delay: Duration,
    record: Option<Record>,
    /// What the client hears instead of what the server says, byte for byte.
    instead: Vec<(Vec<u8>, Vec<u8>)>,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    traffic: Traffic,
    refused: bool,
    ended: bool,
    connections: Vec<TcpStream>,
    accepted: usize,
    /// On the first so many nothing passes.
    stranded: usize,
    /// Bytes a second to the client; none: as many as come.
    rate: Option<u32>,
}

impl Proxy {
    /// To the server that listens on this port of 127.0.0.1.
    pub fn to(server: u16) -> Self {
        Self::with(server, Duration::ZERO, None, Vec::new())
    }

    fn with(
        server: u16,
        delay: Duration,
        record: Option<Record>,
        instead: Vec<(Vec<u8>, Vec<u8>)>,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("listen on any port");
        let port = listener.local_addr().expect("the proxy's address").port();
        let road = Arc::new(Road {
            server,
            delay,
            record,
            instead,
            state: Mutex::new(State {
                traffic: Traffic::Everything,
                refused: false,
                ended: false,
                connections: Vec::new(),
                accepted: 0,
                stranded: 0,
                rate: None,
            }),
            changed: Condvar::new(),
        });
        let accepting = Arc::clone(&road);
        thread::spawn(move || accepting.accept(&listener));
        Self { port, road }
    }

    /// flare's way to one side of a pair from now on; the servers go on reaching each other directly.
    pub fn between(pair: &Pair, side: Side) -> Self {
        Self::far(pair, side, Duration::ZERO, None)
    }

    /// The same over a line of this round trip, and with a record of what passes.
    pub fn far(pair: &Pair, side: Side, round_trip: Duration, record: Option<Record>) -> Self {
        let port = side.of(pair).port();
        Self::with(port, round_trip / 2, record, Vec::new()).on_the_way(pair, side)
    }

    /// A server that says other bytes than it does, each as long as what it stands for.
    pub fn saying(pair: &Pair, side: Side, instead: Vec<(Vec<u8>, Vec<u8>)>) -> Self {
        let port = side.of(pair).port();
        Self::with(port, Duration::ZERO, None, instead).on_the_way(pair, side)
    }

    fn on_the_way(self, pair: &Pair, side: Side) -> Self {
        let (proxy, server) = (self, side.of(pair));
        pair.configure(|config| {
            let conn = &mut config["hosts"][side.as_str()]["conn"];
            conn["port"] = proxy.port().into();
            let via = format!("port_via_{}", side.other().as_str());
            conn[via.as_str()] = server.port().into();
        });
        proxy
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// No byte passes from now on; nobody is told.
    pub fn freeze(&self) {
        self.road.set(Traffic::Nothing);
    }

    /// Statements arrive and their answers are not heard from now on.
    pub fn lose_answers(&self) {
        self.road.set(Traffic::Requests);
    }

    /// Nothing passes on the connections of now, and everything on new ones, as after an outage that a sender of before
    /// has not noticed the end of.
    pub fn strand(&self) {
        let mut state = self.road.lock();
        state.stranded = state.accepted;
    }

    /// Everything passes, what was held back first.
    pub fn thaw(&self) {
        self.road.lock().stranded = 0;
        self.road.set(Traffic::Everything);
    }

    /// A narrow line to the client from now on.
    pub fn narrow(&self, bytes_a_second: u32) {
        self.road.lock().rate = Some(bytes_a_second);
    }

    /// Ends all connections, and each new one at once.
    pub fn cut(&self) {
        let mut state = self.road.lock();
        state.refused = true;
        state.close_all();
    }

    /// Takes connections again after a cut.
    pub fn mend(&self) {
        self.road.lock().refused = false;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        {
            let mut state = self.road.lock();
            state.ended = true;
            state.close_all();
        }
        self.road.changed.notify_all();
        // Its listener looks at the end only when somebody comes.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl State {
    fn close_all(&mut self) {
        for connection in self.connections.drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    fn holds(&self, number: usize, way: Way) -> bool {
        match self.traffic {
            _ if number < self.stranded => true,
            Traffic::Everything => false,
            Traffic::Requests => way == Way::ToClient,
            Traffic::Nothing => true,
        }
    }
}

impl Road {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, traffic: Traffic) {
        self.lock().traffic = traffic;
        self.changed.notify_all();
    }

    fn accept(self: Arc<Self>, listener: &TcpListener) {
        for client in listener.incoming() {
            let Ok(client) = client else { continue };
            let mut state = self.lock();
            if state.ended {
                return;
            }
            if state.refused {
                continue;
            }
            let Ok(server) = TcpStream::connect(("127.0.0.1", self.server)) else {
                continue;
            };
            for end in [&client, &server] {
                let _ = end.set_nodelay(true);
            }
            let (Ok(client_again), Ok(server_again)) = (client.try_clone(), server.try_clone())
            else {
                continue;
            };
            let ends = [client.try_clone(), server.try_clone()];
            state.connections.extend(ends.into_iter().flatten());
            let number = state.accepted;
            state.accepted += 1;
            drop(state);
            for (from, to, way) in [
                (client, server, Way::ToServer),
                (server_again, client_again, Way::ToClient),
            ] {
                let road = Arc::clone(&self);
                thread::spawn(move || road.carry(number, from, to, way));
            }
        }
    }

    fn say_instead(&self, bytes: &mut [u8]) {
        for (said, instead) in &self.instead {
            let mut at = 0;
            while at + said.len() <= bytes.len() {
                let here = &mut bytes[at..at + said.len()];
                if *here == **said {
                    here.copy_from_slice(instead);
                }
                at += 1;
            }
        }
    }

    /// Carries bytes until either end closes. What is delayed is queued, so that a line has any width.
    fn carry(self: Arc<Self>, number: usize, mut from: TcpStream, to: TcpStream, way: Way) {
        let (queue, due) = mpsc::sync_channel::<(Instant, Vec<u8>)>(8);
        let (road, again) = (Arc::clone(&self), from.try_clone());
        let delivering = thread::spawn(move || road.deliver(number, &due, to, way));
        let mut bytes = [0; 16 * 1024];
        loop {
            // An end travels like a byte does: it is not seen while nothing passes.
            let read = from.read(&mut bytes).unwrap_or(0);
            if way == Way::ToClient {
                self.say_instead(&mut bytes[..read]);
            }
            let at = Instant::now() + self.delay;
            if queue.send((at, bytes[..read].to_vec())).is_err() || read == 0 {
                break;
            }
        }
        drop(queue);
        let _ = delivering.join();
        if let Ok(from) = again {
            let _ = from.shutdown(Shutdown::Both);
        }
    }

    fn deliver(
        &self,
        number: usize,
        due: &mpsc::Receiver<(Instant, Vec<u8>)>,
        mut to: TcpStream,
        way: Way,
    ) {
        while let Ok((at, bytes)) = due.recv() {
            thread::sleep(at.saturating_duration_since(Instant::now()));
            let state = self
                .changed
                .wait_while(self.lock(), |state| {
                    state.holds(number, way) && !state.ended
                })
                .unwrap_or_else(PoisonError::into_inner);
            let ended = state.ended;
            let rate = state.rate.filter(|_| way == Way::ToClient);
            drop(state);
            if let Some(rate) = rate {
                thread::sleep(Duration::from_secs_f64(
                    bytes.len() as f64 / f64::from(rate),
                ));
            }
            if let (Some(record), false) = (&self.record, bytes.is_empty()) {
                let mut passed = record.0.lock().unwrap_or_else(PoisonError::into_inner);
                passed.push(Passed {
                    connection: (self.server, number),
                    way,
                    text: String::from_utf8_lossy(&bytes).into_owned(),
                });
            }
            if ended || bytes.is_empty() || to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    }
}
