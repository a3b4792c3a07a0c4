use std::fmt::Write;

use base64ct::{Base64, Encoding};
use clap::ValueEnum;
use zeroize::Zeroizing;

use crate::error::Error;
use crate::key::{Key, LONG, SHORT, Times};

/// How keys are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Format {
    /// A key of 48 or 80 bytes in each file (also Apache and Envoy)
    Nginx,
    /// A list in one file: a line of base64 for each key
    Haproxy,
    /// A list in one file: YAML
    H2o,
    /// A list in one file: keys of 48 bytes in a row
    TrafficServer,
}

impl Format {
    /// The format of a file that is known to be good.
    pub(crate) fn of(content: &[u8]) -> Self {
        let is_text = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
        match content {
            key if matches!(key.len(), SHORT | LONG) => Self::Nginx,
            text if text.iter().all(is_text) => match text.contains(&b':') {
                true => Self::H2o,
                false => Self::Haproxy,
            },
            _ => Self::TrafficServer,
        }
    }

    pub(crate) fn is_list(self) -> bool {
        self != Self::Nginx
    }

    /// How long a new key is in it.
    pub(crate) fn key_len(self) -> usize {
        match self {
            Self::Nginx | Self::Haproxy | Self::H2o => LONG,
            Self::TrafficServer => SHORT,
        }
    }

    /// What stands in the files.
    pub(crate) fn write(self, keys: &[Key]) -> Result<Vec<Zeroizing<Vec<u8>>>, Error> {
        let file = match self {
            Self::Nginx => return keys.iter().map(nginx).collect(),
            Self::Haproxy => self.join(keys, haproxy)?,
            Self::H2o => self.join(keys, h2o)?,
            Self::TrafficServer => self.join(keys, traffic_server)?,
        };
        Ok(vec![file])
    }

    /// Keys in a row, in a buffer that never grows, so that it leaves no copies behind.
    fn join(
        self,
        keys: &[Key],
        write: fn(&Key) -> Result<Zeroizing<Vec<u8>>, Error>,
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let parts = keys.iter().map(write).collect::<Result<Vec<_>, _>>()?;
        let len = parts.iter().map(|part| part.len()).sum();
        let mut file = Zeroizing::new(Vec::with_capacity(len));
        for part in parts {
            file.extend_from_slice(&part);
        }
        Ok(file)
    }
}

fn nginx(key: &Key) -> Result<Zeroizing<Vec<u8>>, Error> {
    match key.as_bytes().len() {
        SHORT | LONG => Ok(Zeroizing::new(key.as_bytes().to_vec())),
        _ => Err(too_long("nginx and HAProxy", "48 or 80")),
    }
}

fn haproxy(key: &Key) -> Result<Zeroizing<Vec<u8>>, Error> {
    let key = nginx(key)?;
    let mut line = Zeroizing::new(vec![b'\n'; Base64::encoded_len(&key) + 1]);
    let text = line.len() - 1;
    // It has room for exactly that.
    let _ = Base64::encode(&key, &mut line[..text]);
    Ok(line)
}

fn traffic_server(key: &Key) -> Result<Zeroizing<Vec<u8>>, Error> {
    match key.as_bytes().len() {
        SHORT => nginx(key),
        _ => Err(too_long("Traffic Server", "48")),
    }
}

fn too_long(server: &str, len: &str) -> Error {
    Error::Wrong(format!(
        "a key does not fit: {server} has keys of {len} bytes. Make new ones with `stek new`"
    ))
}

/// H2O's HMAC key has 64 bytes; one that is shorter is filled up with zeros, which HMAC itself
/// does.
fn h2o(key: &Key) -> Result<Zeroizing<Vec<u8>>, Error> {
    const HMAC: usize = 64;
    let Some(parts) = key.parts() else {
        return Err(Error::Wrong(
            "a key of 48 bytes does not fit into H2O's format: make new ones with `stek new`"
                .into(),
        ));
    };
    let times = key.times.unwrap_or(Times {
        not_before: 0,
        not_after: u64::MAX,
    });
    // It never grows beyond this.
    let mut entry = Zeroizing::new(String::with_capacity(512));
    let zeros = vec![0; HMAC.saturating_sub(parts.hmac.len())];
    entry.push_str("- name: ");
    push_hexadecimal(&mut entry, parts.name);
    let bits = parts.cipher.len() * 8;
    let _ = write!(entry, "\n  cipher: aes-{bits}-cbc\n  hash: sha256\n  key: ");
    for part in [parts.cipher, parts.hmac, &zeros] {
        push_hexadecimal(&mut entry, part);
    }
    let Times {
        not_before,
        not_after,
    } = times;
    let _ = write!(
        entry,
        "\n  not_before: {not_before}\n  not_after: {not_after}\n"
    );
    Ok(Zeroizing::new(entry.as_bytes().to_vec()))
}

/// In constant time.
fn push_hexadecimal(text: &mut String, bytes: &[u8]) {
    let mut digits = Zeroizing::new(vec![0; base16ct::encoded_len(bytes)]);
    text.push_str(base16ct::lower::encode_str(bytes, &mut digits).expect("there is room"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_do_not_fit_a_format_are_refused() {
        let long = Key::from_bytes(&[1; 112], None);
        let short = Key::from_bytes(&[1; 48], None);
        for (format, key) in [
            (Format::Nginx, &long),
            (Format::Haproxy, &long),
            (Format::TrafficServer, &long),
            (Format::H2o, &short),
        ] {
            let error = format.write(std::slice::from_ref(key)).unwrap_err();
            assert!(error.to_string().contains("`stek new`"), "{error}");
        }
    }

    #[test]
    fn an_entry_of_h2o_does_not_outgrow_its_buffer() {
        let key = Key::from_bytes(&[1; 112], None);
        assert!(h2o(&key).unwrap().len() <= 512);
    }
}
