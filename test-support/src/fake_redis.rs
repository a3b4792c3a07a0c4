//! A Redis that is broken, or in the hands of an enemy.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

/// What the server at this port sends after a command of this name, if not what a well one would.
type Answer = dyn Fn(u16, &str) -> Option<Vec<u8>> + Send + Sync;

/// Starts one that has no keys, on this port of loopback, until the process ends.
pub fn start(answer: impl Fn(&str) -> Option<Vec<u8>> + Send + Sync + 'static) -> u16 {
    listen(move |_, command| answer(command))
}

/// The same of a Cluster, in which it says to have all slots.
pub fn start_node(answer: impl Fn(&str) -> Option<Vec<u8>> + Send + Sync + 'static) -> u16 {
    let slots = |port| {
        format!("*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:{port}\r\n").into_bytes()
    };
    listen(move |port, command| {
        let answered = answer(command);
        answered.or_else(|| (command == "CLUSTER").then(|| slots(port)))
    })
}

fn listen(answer: impl Fn(u16, &str) -> Option<Vec<u8>> + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer: Arc<Answer> = Arc::new(answer);
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let answer = Arc::clone(&answer);
            thread::spawn(move || serve(client, |command| answer(port, command)));
        }
    });
    port
}

/// Ends with the connection.
fn serve(mut client: TcpStream, answer: impl Fn(&str) -> Option<Vec<u8>>) -> Option<()> {
    let mut commands = BufReader::new(client.try_clone().ok()?);
    loop {
        let mut words = Vec::new();
        for _ in 0..number(&mut commands)? {
            let mut word = vec![0; number(&mut commands)? + 2];
            commands.read_exact(&mut word).ok()?;
            words.push(word);
        }
        let name = String::from_utf8_lossy(words.first()?).trim().to_owned();
        let well = || match name.as_str() {
            "CLIENT" | "SET" => b"+OK\r\n".to_vec(),
            "GET" | "GETDEL" => b"$-1\r\n".to_vec(),
            _ => b"-ERR unknown command\r\n".to_vec(),
        };
        let answer = answer(&name).unwrap_or_else(well);
        client.write_all(&answer).ok()?;
    }
}

/// After `*` or `$`.
fn number(commands: &mut impl BufRead) -> Option<usize> {
    let mut line = String::new();
    commands.read_line(&mut line).ok()?;
    line.get(1..)?.trim().parse().ok()
}
