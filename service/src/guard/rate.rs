//! Requests a second of one client: a bucket of tokens that fills at the rate and holds two seconds' worth.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Clients remembered before full buckets are thrown away.
const CLIENTS: usize = 10_000;
/// Seconds of requests that may come at once.
const BURST_SECS: f64 = 2.0;

/// Who is counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Client {
    /// The holder of a token.
    Token(Arc<str>),
    /// An address; of IPv6 the network, since one client has many addresses.
    Address([u8; 16]),
}

impl Client {
    /// The client at this address.
    pub(super) fn at(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => {
                let mut octets = v6.octets();
                octets[8..].fill(0);
                octets
            }
        })
    }
}

#[derive(Clone, Copy)]
struct Bucket {
    left: f64,
    at: Instant,
}

/// The buckets.
pub(super) struct Rate {
    per_sec: f64,
    buckets: Mutex<HashMap<Client, Bucket>>,
}

impl Rate {
    /// So many requests a second; 0 for no bound.
    pub(super) fn new(per_sec: f64) -> Self {
        Self { per_sec, buckets: Mutex::default() }
    }

    /// Take one request of `client` at this time.
    ///
    /// # Errors
    /// How long to wait where there is none.
    pub(super) fn take(&self, client: Client, now: Instant) -> Result<(), Duration> {
        if self.per_sec <= 0.0 {
            return Ok(());
        }
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= CLIENTS && !buckets.contains_key(&client) {
            buckets.retain(|_, bucket| self.filled(*bucket, now) < self.most());
            if buckets.len() >= CLIENTS {
                return Err(Duration::from_secs(1));
            }
        }
        let bucket = buckets.entry(client).or_insert(Bucket { left: self.most(), at: now });
        let left = self.filled(*bucket, now);
        let enough = left >= 1.0;
        *bucket = Bucket { left: if enough { left - 1.0 } else { left }, at: now };
        if enough { Ok(()) } else { Err(Duration::from_secs_f64((1.0 - left) / self.per_sec)) }
    }

    fn most(&self) -> f64 {
        (self.per_sec * BURST_SECS).max(1.0)
    }

    fn filled(&self, bucket: Bucket, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
        (bucket.left + passed * self.per_sec).min(self.most())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(text: &str) -> Client {
        Client::at(text.parse().unwrap())
    }

    #[test]
    fn two_seconds_at_once_then_the_rate() {
        let (rate, start) = (Rate::new(2.0), Instant::now());
        let ask = |ms| rate.take(client("10.0.0.1"), start + Duration::from_millis(ms)).is_ok();
        assert_eq!([0, 0, 0, 0, 0].map(ask), [true, true, true, true, false]);
        assert_eq!([499, 501, 501].map(ask), [false, true, false]);
        let wait = rate.take(client("10.0.0.1"), start + Duration::from_millis(751)).unwrap_err();
        assert_eq!(wait.as_millis(), 249, "half a second for one, of which a quarter has passed");
        assert!(rate.take(client("10.0.0.2"), start).is_ok(), "another client has its own bucket");
        assert_eq!([60_000; 5].map(ask), [true, true, true, true, false], "a pause saves up no more than the burst");
    }

    #[test]
    fn no_bound_and_one_network_one_client() {
        let (rate, now) = (Rate::new(0.0), Instant::now());
        assert!((0..10_000).all(|_| rate.take(client("10.0.0.1"), now).is_ok()));
        assert_eq!(client("2001:db8::1"), client("2001:db8::ffff:1"));
        assert_ne!(client("2001:db8::1"), client("2001:db8:0:1::1"));
        assert_eq!(client("::ffff:10.0.0.1"), client("10.0.0.1"));
    }

    #[test]
    fn memory_is_bounded() {
        let (rate, now) = (Rate::new(1.0), Instant::now());
        let at = |i: usize| Client::Token(i.to_string().into());
        assert!((0..CLIENTS).all(|i| rate.take(at(i), now).is_ok()));
        assert!(rate.take(at(CLIENTS), now).is_err(), "all are in use");
        assert!(rate.take(at(CLIENTS), now + Duration::from_secs(2)).is_ok(), "full buckets make room");
        assert_eq!(rate.buckets.lock().unwrap().len(), 1);
    }
}
