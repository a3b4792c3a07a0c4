//! OpenSSL's client, whose certificate is revoked while it has a session.

use std::fs;

use tempfile::TempDir;
use test_support::client_auth::{Authority, Certificate};
use test_support::clients::Target;
use test_support::echo_server::EchoProcess;

#[test]
fn openssl_resumes_until_its_certificate_is_revoked() {
    for version in ["-tls1_2", "-tls1_3"] {
        for mode in ["tickets", "stateful"] {
            let ca = Authority::make();
            let (good, evil) = (ca.issue(), ca.issue());
            let files = Files(TempDir::new().unwrap());
            let client_ca = files.write("ca.pem", ca.pem());
            let crl = files.write("crl.pem", ca.crl(&[]).pem().unwrap());
            let client_auth = ["--client-ca", &client_ca, "--client-crl", &crl];
            let server =
                EchoProcess::start(&[&["--resumption", mode][..], &client_auth[..]].concat());
            let to = Target {
                address: server.address(),
                ca: server.ca(),
            };
            let [honest, thief] = [("good", &good), ("evil", &evil)]
                .map(|(name, certificate)| files.client(name, certificate));
            for client in [&honest, &thief] {
                assert!(client.visit(&to, &[version]).unwrap().contains("New, "));
                let again = client.visit_again(&to, &[version]).unwrap();
                assert!(again.contains("Reused, "), "{mode} {again}");
            }
            files.write("crl.pem", ca.crl(&[&evil]).pem().unwrap());
            assert_eq!(server.order("HUP").0, "reload ok");
            let again = honest.visit_again(&to, &[version]).unwrap();
            assert!(again.contains("Reused, "), "{mode} {again}");
            assert!(thief.visit_again(&to, &[version]).is_err());
            let sums = server.stop();
            assert_eq!((sums.full, sums.resumed, sums.failed), (2, 3, 1), "{mode}");
        }
    }
}

struct Files(TempDir);

/// One that keeps its session in a file.
struct Client {
    certificate: String,
    key: String,
    session: String,
}

impl Files {
    fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> String {
        let path = self.0.path().join(name);
        fs::write(&path, contents).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn client(&self, name: &str, certificate: &Certificate) -> Client {
        Client {
            certificate: self.write(&format!("{name}.crt"), &certificate.chain[0]),
            key: self.write(&format!("{name}.key"), certificate.key.secret_pkcs8_der()),
            session: self.write(&format!("{name}.session"), b""),
        }
    }
}

impl Client {
    fn visit(&self, to: &Target<'_>, flags: &[&str]) -> Result<String, String> {
        let shown = [
            ["-certform", "DER", "-cert", &self.certificate],
            ["-keyform", "DER", "-key", &self.key],
        ];
        let kept = ["-sess_out", &self.session];
        to.try_s_client(&[&shown.concat(), &kept[..], flags].concat())
    }

    fn visit_again(&self, to: &Target<'_>, flags: &[&str]) -> Result<String, String> {
        self.visit(to, &[&["-sess_in", &self.session], flags].concat())
    }
}
