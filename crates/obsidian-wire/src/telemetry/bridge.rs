//! The node's metrics, recorded once and shown twice: to the recorder behind the bridge (Prometheus) and, once
//! telemetry is started, to a collector under the same names and labels.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry_sdk::metrics::SdkMeterProvider;

/// Bounds for a histogram that states none: durations in seconds.
const SECONDS: &[f64] = &[0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0];

static METER: OnceLock<Meter> = OnceLock::new();

pub(super) fn start(provider: &SdkMeterProvider) {
    let _ = METER.set(provider.meter("obsidian"));
}

/// Stands before a recorder. Install it as the process's recorder.
pub struct Bridge<R> {
    recorder: R,
    bounds: HashMap<String, Vec<f64>>,
    /// What was told about each name.
    described: Mutex<HashMap<String, (Option<Unit>, SharedString)>>,
    /// As many as the recorder behind has series of its own.
    series: Mutex<HashMap<Key, Series>>,
}

#[derive(Clone)]
enum Series {
    Counter(Arc<CounterSeries>),
    Gauge(Arc<GaugeSeries>),
    Histogram(Arc<HistogramSeries>),
}

impl<R: Recorder> Bridge<R> {
    /// A bridge before `recorder`; `bounds` are the buckets of histograms by name.
    pub fn new<'a>(recorder: R, bounds: impl IntoIterator<Item = (&'a str, &'a [f64])>) -> Self {
        let bounds = bounds.into_iter().map(|(name, bounds)| (name.to_owned(), bounds.to_vec())).collect();
        Self { recorder, bounds, described: Mutex::default(), series: Mutex::default() }
    }

    fn describe(&self, name: &KeyName, unit: Option<Unit>, description: &SharedString) {
        let mut described = self.described.lock().unwrap_or_else(PoisonError::into_inner);
        described.insert(name.as_str().to_owned(), (unit, description.clone()));
    }

    fn description(&self, key: &Key) -> (String, String) {
        let described = self.described.lock().unwrap_or_else(PoisonError::into_inner);
        let (unit, text) = described.get(key.name()).cloned().unwrap_or_default();
        let unit = match unit {
            Some(Unit::Seconds) => "s",
            Some(Unit::Bytes) => "By",
            Some(Unit::Count) => "{token}",
            _ => "",
        };
        (unit.to_owned(), text.into_owned())
    }

    fn series(&self, key: &Key, make: impl FnOnce(&Meter, Vec<KeyValue>) -> Series) -> Option<Series> {
        let meter = METER.get()?;
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = series.get(key) {
            return Some(known.clone());
        }
        let labels = key.labels().map(|label| KeyValue::new(label.key().to_owned(), label.value().to_owned()));
        let made = make(meter, labels.collect());
        series.insert(key.clone(), made.clone());
        Some(made)
    }
}

impl<R: Recorder> Recorder for Bridge<R> {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, description: SharedString) {
        self.describe(&name, unit, &description);
        self.recorder.describe_counter(name, unit, description);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, description: SharedString) {
        self.describe(&name, unit, &description);
        self.recorder.describe_gauge(name, unit, description);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, description: SharedString) {
        self.describe(&name, unit, &description);
        self.recorder.describe_histogram(name, unit, description);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        let behind = self.recorder.register_counter(key, metadata);
        let made = self.series(key, |meter, labels| {
            let (unit, text) = self.description(key);
            let exported = meter.u64_counter(key.name().to_owned()).with_unit(unit).with_description(text).build();
            Series::Counter(Arc::new(CounterSeries { exported, labels, total: AtomicU64::new(0) }))
        });
        match made {
            Some(Series::Counter(series)) => Counter::from_arc(Arc::new(Both { behind, series })),
            _ => behind,
        }
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        let behind = self.recorder.register_gauge(key, metadata);
        let made = self.series(key, |meter, labels| {
            let (unit, text) = self.description(key);
            let exported = meter.f64_gauge(key.name().to_owned()).with_unit(unit).with_description(text).build();
            Series::Gauge(Arc::new(GaugeSeries { exported, labels, value: Mutex::new(0.0) }))
        });
        match made {
            Some(Series::Gauge(series)) => Gauge::from_arc(Arc::new(Both { behind, series })),
            _ => behind,
        }
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        let behind = self.recorder.register_histogram(key, metadata);
        let made = self.series(key, |meter, labels| {
            let (unit, text) = self.description(key);
            let bounds = self.bounds.get(key.name()).map_or(SECONDS, Vec::as_slice).to_vec();
            let exported = meter
                .f64_histogram(key.name().to_owned())
                .with_unit(unit)
                .with_description(text)
                .with_boundaries(bounds)
                .build();
            Series::Histogram(Arc::new(HistogramSeries { exported, labels }))
        });
        match made {
            Some(Series::Histogram(series)) => Histogram::from_arc(Arc::new(Both { behind, series })),
            _ => behind,
        }
    }
}

/// The handle of the recorder behind, and ours.
struct Both<H, S> {
    behind: H,
    series: Arc<S>,
}

struct CounterSeries {
    exported: opentelemetry::metrics::Counter<u64>,
    labels: Vec<KeyValue>,
    /// The highest total that was set rather than added.
    total: AtomicU64,
}

impl CounterFn for Both<Counter, CounterSeries> {
    fn increment(&self, value: u64) {
        self.behind.increment(value);
        self.series.exported.add(value, &self.series.labels);
    }

    fn absolute(&self, value: u64) {
        self.behind.absolute(value);
        let before = self.series.total.fetch_max(value, Ordering::AcqRel);
        self.series.exported.add(value.saturating_sub(before), &self.series.labels);
    }
}

struct GaugeSeries {
    exported: opentelemetry::metrics::Gauge<f64>,
    labels: Vec<KeyValue>,
    value: Mutex<f64>,
}

impl GaugeSeries {
    fn change(&self, change: impl FnOnce(f64) -> f64) {
        let mut value = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        *value = change(*value);
        self.exported.record(*value, &self.labels);
    }
}

impl GaugeFn for Both<Gauge, GaugeSeries> {
    fn increment(&self, value: f64) {
        self.behind.increment(value);
        self.series.change(|before| before + value);
    }

    fn decrement(&self, value: f64) {
        self.behind.decrement(value);
        self.series.change(|before| before - value);
    }

    fn set(&self, value: f64) {
        self.behind.set(value);
        self.series.change(|_| value);
    }
}

struct HistogramSeries {
    exported: opentelemetry::metrics::Histogram<f64>,
    labels: Vec<KeyValue>,
}

impl HistogramFn for Both<Histogram, HistogramSeries> {
    fn record(&self, value: f64) {
        self.behind.record(value);
        self.series.exported.record(value, &self.series.labels);
    }
}
