//! A name server that knows one name, on a loopback address of its own.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::thread;

pub struct NameServer {
    address: Ipv4Addr,
}

impl NameServer {
    /// Answers with 127.0.0.1 for the name, until the process ends. Port 53 takes root's rights.
    pub fn start(name: &str) -> io::Result<Self> {
        let address = Ipv4Addr::new(127, 53, 53, 53);
        let socket = UdpSocket::bind((address, 53))?;
        let name = wire_format(name);
        thread::spawn(move || {
            let mut query = [0; 512];
            while let Ok((length, client)) = socket.recv_from(&mut query) {
                if let Some(answer) = answer(&query[..length], &name) {
                    let _ = socket.send_to(&answer, client);
                }
            }
        });
        Ok(Self { address })
    }

    pub fn address(&self) -> Ipv4Addr {
        self.address
    }
}

/// Labels, each after its length, and an empty one at the end (RFC 1035, 3.1).
fn wire_format(name: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in name.split('.') {
        wire.push(u8::try_from(label.len()).expect("a short label"));
        wire.extend_from_slice(label.as_bytes());
    }
    wire.push(0);
    wire
}

/// The answer to a query of one question, its name as it was asked.
fn answer(query: &[u8], known: &[u8]) -> Option<Vec<u8>> {
    const HEADER: usize = 12;
    const NXDOMAIN: u8 = 3;
    let question = query.get(HEADER..)?;
    let length = question.iter().position(|byte| *byte == 0)? + 1;
    let question = question.get(..length + 4)?;
    let is_known = question[..length].eq_ignore_ascii_case(known);
    let asks_a = question[length..] == [0, 1, 0, 1];
    let answers = u8::from(is_known && asks_a);
    let code = if is_known { 0 } else { NXDOMAIN };
    let mut answer = query[..2].to_vec();
    answer.extend([
        0x84 | (query[2] & 1),
        0x80 | code,
        0,
        1,
        0,
        answers,
        0,
        0,
        0,
        0,
    ]);
    answer.extend_from_slice(question);
    if answers == 1 {
        // The name is at byte 12 of the message; type A, class IN, 60 seconds, 4 bytes.
        answer.extend([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
    }
    Some(answer)
}
