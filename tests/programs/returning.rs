//! Clients in other languages and with other TLS libraries, which come back again and again. Their
//! sources are in `returning/`; each is called with a host, a port, a CA file, a TLS version and a
//! number of visits, and prints of each visit whether it was `new` or `reused` a session.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use tempfile::TempDir;
use test_support::echo_server::EchoProcess;
use test_support::peer::{program, python_program};

use crate::peers::{in_every_mode, table};

/// Each visit of a client: `f` for a full handshake, `R` if it resumed.
///
/// Where it is not all `R`:
/// - Perl's cache gives out a TLS 1.2 session once and keeps none that was renewed with it; rustls
///   renews a ticket whenever it resumes.
/// - Go keeps TLS 1.2 sessions by ticket alone, never by session ID.
/// - wolfSSL of Debian has room for 8 bytes of a ticket's nonce, of which rustls sends 32: it ends
///   its first TLS 1.3 connection when it reads the ticket.
const WHO_RESUMES: &str = "
client          tickets  stateful  builtin-tickets  builtin-stateful
node 1.2        fRRR     fRRR      fRRR             fRRR
node 1.3        fRRR     fRRR      fRRR             fRRR
java 1.2        fRRR     fRRR      fRRR             fRRR
java 1.3        fRRR     fRRR      fRRR             fRRR
go 1.2          fRRR     ffff      fRRR             ffff
go 1.3          fRRR     fRRR      fRRR             fRRR
ruby 1.2        fRRR     fRRR      fRRR             fRRR
ruby 1.3        fRRR     fRRR      fRRR             fRRR
perl 1.2        fRfR     fRRR      fRfR             fRRR
perl 1.3        fRRR     fRRR      fRRR             fRRR
mbedtls 1.2     fRRR     fRRR      fRRR             fRRR
wolfssl 1.2     fRRR     fRRR      fRRR             fRRR
wolfssl 1.3     f        f         f                f
tlslite-ng 1.2  fRRR     fRRR      fRRR             fRRR
tlslite-ng 1.3  fRRR     fRRR      fRRR             fRRR
";

const VISITS: usize = 4;

#[test]
fn clients_in_other_languages_resume_in_every_mode() {
    let built = TempDir::new().unwrap();
    build(built.path());
    let clients = clients(built.path());
    let columns = in_every_mode(|mode| {
        let server = EchoProcess::start(&["--resumption", mode]);
        clients
            .iter()
            .flat_map(|(name, command)| {
                let versions: &[_] = match *name {
                    // Debian's 2.28 has no TLS 1.3.
                    "mbedtls" => &["1.2"],
                    _ => &["1.2", "1.3"],
                };
                versions
                    .iter()
                    .map(|version| visits(name, command, version, &server))
            })
            .collect::<Vec<_>>()
    });
    let names: Vec<_> = columns[0].iter().map(|(name, _)| name.as_str()).collect();
    let columns = columns
        .each_ref()
        .map(|column| column.iter().map(|(_, letters)| letters.clone()).collect());
    let table = table("client", &names, &columns);
    assert!(table == WHO_RESUMES, "{table}");
}

/// Runs a client, and returns its name with the version and a letter for each visit.
fn visits(
    name: &str,
    command: &[PathBuf],
    version: &str,
    server: &EchoProcess,
) -> (String, String) {
    let (program, arguments) = command.split_first().expect("a program");
    let output = Command::new(program)
        .args(arguments)
        .arg(server.address().ip().to_string())
        .arg(server.address().port().to_string())
        .arg(server.ca())
        .args([version, &VISITS.to_string()])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout.clone()).unwrap();
    let fails = (name, version) == ("wolfssl", "1.3");
    assert_eq!(output.status.success(), !fails, "{name}: {output:?}");
    let letters: String = (0..if fails { 1 } else { VISITS })
        .map(|_| {
            let conn = server.conn();
            assert_eq!(conn.version, version, "{name}");
            if conn.outcome == "full" { 'f' } else { 'R' }
        })
        .collect();
    if !fails {
        let told: String = said
            .lines()
            .map(|line| if line == "reused" { 'R' } else { 'f' })
            .collect();
        assert_eq!(told, letters, "{name} and the server disagree");
    }
    (format!("{name} {version}"), letters)
}

fn source(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/returning");
    directory.join(name)
}

/// The command of each client.
fn clients(built: &Path) -> Vec<(&'static str, Vec<PathBuf>)> {
    vec![
        (
            "node",
            vec![program("node", "nodejs"), source("client.mjs")],
        ),
        (
            "java",
            vec![
                program("java", "default-jre-headless"),
                // A short life does not pay for the second compiler.
                "-XX:TieredStopAtLevel=1".into(),
                "-cp".into(),
                built.into(),
                "Client".into(),
            ],
        ),
        ("go", vec![built.join("go")]),
        ("ruby", vec![program("ruby", "ruby"), source("client.rb")]),
        ("perl", vec![program("perl", "perl"), source("client.pl")]),
        ("mbedtls", vec![built.join("mbedtls")]),
        ("wolfssl", vec![built.join("wolfssl")]),
        (
            "tlslite-ng",
            vec![python_program("python3"), source("client.py")],
        ),
    ]
}

/// Compiles what is not a script.
fn build(into: &Path) {
    let mut c = ["mbedtls", "wolfssl"].map(|name| {
        let mut compiler = Command::new(program("gcc", "gcc"));
        compiler.arg("-o").arg(into.join(name));
        compiler.arg(source(&format!("{name}.c")));
        compiler
    });
    c[0].args(["-lmbedtls", "-lmbedx509", "-lmbedcrypto"]);
    c[1].arg("-lwolfssl");
    let mut java = Command::new(program("javac", "default-jdk-headless"));
    java.arg("-d").arg(into).arg(source("Client.java"));
    let mut go = Command::new(program("go", "golang-go"));
    let cache = into.join("go-cache");
    fs::create_dir(&cache).unwrap();
    // It may have no home, and needs nothing from there.
    go.env("GOCACHE", cache).env("GOTOOLCHAIN", "local");
    go.args(["build", "-o"]).arg(into.join("go"));
    go.arg(source("client.go"));
    thread::scope(|scope| {
        for mut compiler in c.into_iter().chain([java, go]) {
            scope.spawn(move || {
                let output = compiler.output().unwrap();
                assert!(output.status.success(), "{compiler:?}: {output:?}");
            });
        }
    });
}

#[test]
fn scanners_find_both_ways_to_resume() {
    let sslyze = |mode, expected| {
        let server = EchoProcess::start(&["--resumption", mode]);
        let output = Command::new(python_program("sslyze"))
            .args(["--resum", &server.address().to_string()])
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        for line in expected {
            assert!(said.contains(line), "{mode}: {said}");
        }
    };
    let by_id = "With Session IDs: OK - Supported (5 successful resumptions out of 5 attempts)";
    // It offers the ticket of its first connection each time and asks whether the answer is that
    // ticket again; rustls renews it, which is taken for a refusal.
    let by_ticket = "With TLS Tickets: NOT SUPPORTED";
    sslyze("tickets", [by_id, by_ticket]);
    sslyze("stateful", [by_id, by_ticket]);
}
