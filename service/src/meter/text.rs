//! The figures in the text format of Prometheus.

use super::{BOUNDS, Count, Meter};
use std::fmt::Write as _;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

/// A figure that the rest of the server knows, such as sessions by status.
#[derive(Clone, Debug)]
pub struct Gauge {
    /// Name, such as `curate_sessions`; figures of one name stand together.
    pub name: &'static str,
    /// What it says.
    pub help: &'static str,
    /// Label and value.
    pub label: Option<(&'static str, String)>,
    /// The figure.
    pub value: f64,
}

impl Meter {
    /// All figures, with those of the rest of the server.
    #[must_use]
    pub fn text(&self, gauges: &[Gauge]) -> String {
        let mut text = String::new();
        self.write_requests(&mut text);
        for (name, help, count) in self.counts() {
            head(&mut text, name, help, "counter");
            let _ = writeln!(text, "{name} {}", count.get());
        }
        let under_way = self.under_way.load(Ordering::Relaxed) as f64;
        let rss = curate_api::rss_bytes() as f64;
        let own = [
            ("curate_requests_in_flight", "Requests under way.", under_way),
            ("curate_uptime_seconds", "Time since the start.", self.uptime().as_secs_f64()),
            ("process_resident_memory_bytes", "Resident memory.", rss),
        ];
        let own = own.map(|(name, help, value)| Gauge { name, help, label: None, value });
        let version = Some(("version", env!("CARGO_PKG_VERSION").to_owned()));
        let build = Gauge { name: "curate_build_info", help: "The version that runs.", label: version, value: 1.0 };
        write_gauges(&mut text, own.iter().chain([&build]).chain(gauges));
        text
    }

    fn counts(&self) -> [(&'static str, &'static str, &Count); 7] {
        [
            ("curate_request_bytes_total", "Bytes of bodies that came.", &self.bytes_in),
            ("curate_response_bytes_total", "Bytes of answers.", &self.bytes_out),
            ("curate_batches_total", "Batches handed out.", &self.batches),
            ("curate_batch_rows_total", "Rows in batches handed out.", &self.rows),
            ("curate_feedback_total", "Calls of feedback taken in.", &self.feedback),
            ("curate_replays_total", "Calls answered again with what was answered before.", &self.replays),
            ("curate_store_errors_total", "Calls of the database that failed.", &self.store_errors),
        ]
    }

    fn write_requests(&self, text: &mut String) {
        let name = "curate_request_duration_seconds";
        head(text, name, "Time until an answer began.", "histogram");
        for ((route, method, status), series) in self.series.read().unwrap_or_else(PoisonError::into_inner).iter() {
            let labels = format!("route=\"{}\",method=\"{method}\",status=\"{status}\"", escaped(route));
            let mut sum = 0;
            for (bound, bucket) in BOUNDS.iter().zip(&series.buckets) {
                sum += bucket.get();
                let _ = writeln!(text, "{name}_bucket{{{labels},le=\"{bound}\"}} {sum}");
            }
            let count = series.count.get();
            let _ = writeln!(text, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}");
            let _ = writeln!(text, "{name}_sum{{{labels}}} {}", series.nanos.get() as f64 / 1e9);
            let _ = writeln!(text, "{name}_count{{{labels}}} {count}");
        }
    }
}

fn head(text: &mut String, name: &str, help: &str, kind: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn write_gauges<'a>(text: &mut String, gauges: impl Iterator<Item = &'a Gauge>) {
    let mut last = "";
    for gauge in gauges {
        if gauge.name != last {
            head(text, gauge.name, gauge.help, "gauge");
            last = gauge.name;
        }
        let label = gauge.label.as_ref().map(|(key, value)| format!("{{{key}=\"{}\"}}", escaped(value)));
        let _ = writeln!(text, "{}{} {}", gauge.name, label.unwrap_or_default(), gauge.value);
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::Done;
    use std::time::Duration;

    #[test]
    fn every_line_is_of_the_format() {
        let meter = Meter::default();
        let done = |ms, status| {
            meter.done(&Done { method: "GET", route: "/v1/jobs/{id}", status, took: Duration::from_millis(ms) });
        };
        [2, 30, 100_000].into_iter().for_each(|ms| done(ms, 200));
        done(1, 404);
        meter.rows.add(64);
        let _under_way = meter.begin();
        let gauge = |value: &str| Gauge {
            name: "curate_sessions",
            help: "Sessions by status.",
            label: Some(("status", value.to_owned())),
            value: 3.0,
        };
        let text = meter.text(&[gauge("ready"), gauge("a\"b\\\n")]);
        let labels = "route=\"/v1/jobs/{id}\",method=\"GET\",status=\"200\"";
        for line in [
            format!("curate_request_duration_seconds_bucket{{{labels},le=\"0.001\"}} 0"),
            format!("curate_request_duration_seconds_bucket{{{labels},le=\"0.0025\"}} 1"),
            format!("curate_request_duration_seconds_bucket{{{labels},le=\"60\"}} 2"),
            format!("curate_request_duration_seconds_bucket{{{labels},le=\"+Inf\"}} 3"),
            format!("curate_request_duration_seconds_sum{{{labels}}} 100.032"),
            "curate_batch_rows_total 64".to_owned(),
            "curate_requests_in_flight 1".to_owned(),
            "curate_sessions{status=\"ready\"} 3".to_owned(),
            "curate_sessions{status=\"a\\\"b\\\\\\n\"} 3".to_owned(),
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        assert_eq!(text.matches("# TYPE curate_sessions gauge").count(), 1);
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            assert!(line.rsplit_once(' ').is_some_and(|(_, value)| value.parse::<f64>().is_ok()), "{line}");
        }
        assert_eq!(meter.requests(), 4);
    }
}
