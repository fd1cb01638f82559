//! TLS by rustls: a certificate and its key from PEM files, checked when the server starts.

use axum_server::tls_rustls::RustlsConfig;
use curate_api::{Error, Location, Result};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a certificate and its key lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate, then those that vouch for it.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// A certificate and key that fit.
#[derive(Clone, Debug)]
pub struct Tls(Arc<ServerConfig>);

impl From<Tls> for RustlsConfig {
    fn from(tls: Tls) -> Self {
        Self::from_config(tls.0)
    }
}

impl Tls {
    /// Read both files; `now` in seconds since 1970.
    ///
    /// # Errors
    /// `tls/file`, `tls/pem`, `tls/key`, `tls/expired`.
    pub fn read(files: &TlsFiles, now: f64) -> Result<Self> {
        let certs: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&files.cert)
            .and_then(Iterator::collect)
            .map_err(|e| unread(&e, &files.cert, "a certificate"))?;
        let Some(first) = certs.first() else {
            return Err(unread(&PemError::NoItemsFound, &files.cert, "a certificate"));
        };
        check_dates(first, now, &files.cert)?;
        let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| unread(&e, &files.key, "a private key"))?;
        let wrong = |e: rustls::Error| {
            Error::usage("tls/key", format!("certificate and key do not make a server: {e}"))
                .hint("--tls-key must be the key of the first certificate in --tls-cert")
                .at(Location::file(files.key.to_string_lossy()))
        };
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(certs, key))
            .map_err(wrong)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config)))
    }
}

fn unread(error: &PemError, path: &Path, what: &str) -> Error {
    let place = Location::file(path.to_string_lossy());
    match error {
        PemError::Io(e) => Error::io("tls/file", format!("cannot read the file with {what}: {e}"))
            .hint("name PEM files that this user may read, with --tls-cert and --tls-key"),
        PemError::NoItemsFound => Error::usage("tls/pem", format!("there is no PEM block with {what} in this file"))
            .hint("were --tls-cert and --tls-key swapped?"),
        _ => {
            Error::usage("tls/pem", format!("the PEM block with {what} is broken: {error}")).hint("copy the file anew")
        }
    }
    .at(place)
}

/// Refuse a certificate that no client will take today. One whose dates cannot be found is left to the clients.
fn check_dates(cert: &[u8], now: f64, path: &Path) -> Result<()> {
    let refuse = |what: &str| {
        Err(Error::usage("tls/expired", what)
            .hint("renew the certificate, or set the clock of this machine")
            .at(Location::file(path.to_string_lossy())))
    };
    match dates(cert) {
        Some((_, end)) if end < now => refuse("the certificate has expired"),
        Some((start, _)) if start > now => refuse("the certificate is not valid yet"),
        _ => Ok(()),
    }
}

/// One value of DER: its tag, its bytes, and what follows.
fn value(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, &first) = (der.first()?, der.get(1)?);
    let (size, at) = if first < 0x80 {
        (usize::from(first), 2)
    } else {
        let bytes = der.get(2..2 + usize::from(first & 0x7f)).filter(|bytes| bytes.len() <= 4)?;
        (bytes.iter().fold(0, |all, byte| all << 8 | usize::from(*byte)), 2 + bytes.len())
    };
    Some((tag, der.get(at..at + size)?, der.get(at + size..)?))
}

/// First and last second of a certificate: the fourth field of its signed part, or the fifth where a version comes first.
fn dates(cert: &[u8]) -> Option<(f64, f64)> {
    let (_, cert, _) = value(cert)?;
    let (_, mut signed, _) = value(cert)?;
    let skip = if signed.first() == Some(&0xa0) { 4 } else { 3 };
    for _ in 0..skip {
        signed = value(signed)?.2;
    }
    let (_, validity, _) = value(signed)?;
    let (kind, start, rest) = value(validity)?;
    let (end_kind, end, _) = value(rest)?;
    Some((seconds(kind, start)?, seconds(end_kind, end)?))
}

/// `YYMMDDhhmmssZ` (tag 0x17) or `YYYYMMDDhhmmssZ` as seconds since 1970.
fn seconds(kind: u8, text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let (year, at) = if kind == 0x17 {
        let year = number(0, 2)?;
        (year + if year < 50 { 2000 } else { 1900 }, 2)
    } else {
        (number(0, 4)?, 4)
    };
    let two = |n: usize| number(at + 2 * n, at + 2 * n + 2);
    let days = days(year, two(0)?, two(1)?);
    Some((days * 86_400 + two(2)? * 3600 + two(3)? * 60 + two(4)?) as f64)
}

/// Days since 1970 of a date in the Gregorian calendar; years begin in March, so that a leap day is the last.
const fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    /// A certificate valid in these years, and its key.
    fn pair(from: i32, to: i32) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".into()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn code(cert: Option<&str>, key: Option<&str>, now: f64) -> &'static str {
        let dir = tempfile::tempdir().unwrap();
        let files = TlsFiles { cert: dir.path().join("cert.pem"), key: dir.path().join("key.pem") };
        let put = |path: &Path, text: Option<&str>| text.iter().for_each(|text| std::fs::write(path, text).unwrap());
        put(&files.cert, cert);
        put(&files.key, key);
        Tls::read(&files, now).map_or_else(|e| e.code(), |_| "ok")
    }

    #[test]
    fn files_are_checked_at_the_start() {
        let now = 1_800_000_000.0; // in 2027
        let ((cert, key), (_, other)) = (pair(2020, 2060), pair(2020, 2060));
        assert_eq!(code(Some(&cert), Some(&key), now), "ok");
        assert_eq!(code(None, Some(&key), now), "tls/file");
        assert_eq!(code(Some(&cert), None, now), "tls/file");
        assert_eq!(code(Some(&cert), Some(&other), now), "tls/key");
        assert_eq!(code(Some(&key), Some(&cert), now), "tls/pem");
        assert_eq!(code(Some("text"), Some(&key), now), "tls/pem");
        assert_eq!(code(Some(&cert), Some(&key.replace("MIG", "!!!")), now), "tls/pem");
        assert_eq!(code(Some(&pair(2020, 2026).0), Some(&key), now), "tls/expired");
        assert_eq!(code(Some(&pair(2030, 2060).0), Some(&key), now), "tls/expired");
    }

    #[test]
    #[allow(clippy::float_cmp)] // reason: whole seconds
    fn dates_are_read_from_the_certificate() {
        let pem = pair(1999, 2060).0;
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        // date -u -d 1999-01-01 +%s, and 2060
        assert_eq!(dates(&der), Some((915_148_800.0, 2_840_140_800.0)));
        assert_eq!((days(1970, 1, 1), days(2000, 2, 29), days(2000, 3, 1)), (0, 11_016, 11_017));
        assert!((0..der.len()).all(|cut| dates(&der[..cut]).is_none_or(|d| d.0 == 915_148_800.0)));
    }
}
