//! The example as a program, asked over HTTP.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

struct Server {
    child: Child,
    admin: String,
}

impl Server {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_admin-example"))
            .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .env("ADMIN_TOKEN", TOKEN)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut lines = lines.map(Result::unwrap);
        let admin = lines.find_map(|line| line.strip_prefix("admin on http://").map(str::to_owned));
        Self {
            child,
            admin: admin.unwrap(),
        }
    }

    /// Status and body.
    fn ask(&self, request: &str) -> (u16, String) {
        let mut tcp = TcpStream::connect(&self.admin).unwrap();
        write!(tcp, "{request}host: admin\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), body.to_owned())
    }

    fn json(&self, request: &str) -> Value {
        let (status, body) = self.ask(request);
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_operator_sees_the_keys_and_revokes_one_by_name() {
    let server = Server::start();
    assert_eq!(server.ask("GET /ready HTTP/1.1\r\n").0, 200);
    let stats = server.json("GET /stats HTTP/1.1\r\n");
    let active = stats["steks"]["active"].as_str().unwrap().to_owned();
    let steks = server.json("GET /steks HTTP/1.1\r\n");
    assert!(
        steks
            .as_array()
            .unwrap()
            .iter()
            .any(|stek| stek["name"] == *active)
    );

    let revoke = format!("POST /revoke/{active} HTTP/1.1\r\ncontent-length: 0\r\n");
    assert_eq!(server.ask(&revoke).0, 401);
    assert_eq!(
        server
            .ask(&format!("{revoke}authorization: Bearer nonsense\r\n"))
            .0,
        401
    );
    let allowed = format!("authorization: Bearer {TOKEN}\r\n");
    let unnamed = "POST /revoke/nonsense HTTP/1.1\r\ncontent-length: 0\r\n";
    assert_eq!(server.ask(&format!("{unnamed}{allowed}")).0, 400);
    assert_eq!(server.json(&format!("{revoke}{allowed}"))["steks"], 1);
    let stats = server.json("GET /stats HTTP/1.1\r\n");
    assert_ne!(stats["steks"]["active"], *active);
    assert_eq!(stats["steks"]["revocations"], 1);
}

#[test]
fn without_a_token_it_does_not_start_and_says_so() {
    let output = Command::new(env!("CARGO_BIN_EXE_admin-example"))
        .env_remove("ADMIN_TOKEN")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("error: --token ADMIN_TOKEN: "), "{said}");
}
