//! The process's own figures under the names that Prometheus clients use everywhere, read from /proc at each scrape.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use std::fmt;

#[derive(Debug)]
pub(super) struct Process;

/// Of a tick in /proc (proc(5)), whatever the machine: USER_HZ is 100 on Linux.
const TICKS_PER_SECOND: f64 = 100.0;
/// Of a page in /proc/self/statm on the machines that we build for.
const PAGE: f64 = 4096.0;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The name of the process, in parentheses, may hold blanks.
        let fields: Vec<f64> =
            stat.rsplit(") ").next().unwrap_or_default().split(' ').map(|f| f.parse().unwrap_or(0.0)).collect();
        let field = |at: usize| fields.get(at).copied().unwrap_or(0.0);
        let memory = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages = |at: usize| memory.split(' ').nth(at).and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0);
        let cpu = (field(11) + field(12)) / TICKS_PER_SECOND;
        let counter = encoder.encode_descriptor("process_cpu_seconds", "Processor time", None, MetricType::Counter)?;
        ConstCounter::new(cpu).encode(counter)?;
        for (name, help, value) in [
            ("process_resident_memory_bytes", "Memory in use", pages(1) * PAGE),
            ("process_virtual_memory_bytes", "Address space", pages(0) * PAGE),
            ("process_open_fds", "Open file descriptors", open_descriptors()),
            ("process_max_fds", "The limit of open file descriptors", most_descriptors()),
            (
                "process_start_time_seconds",
                "When the process started, in Unix time",
                booted() + field(19) / TICKS_PER_SECOND,
            ),
            ("process_threads", "Threads", field(17)),
        ] {
            ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        Ok(())
    }
}

fn open_descriptors() -> f64 {
    std::fs::read_dir("/proc/self/fd").map_or(0.0, |all| all.count() as f64)
}

fn most_descriptors() -> f64 {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0.0)
}

fn booted() -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok()).unwrap_or(0.0)
}
