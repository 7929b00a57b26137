//! What a collector has taken, and what not.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry::trace::Span;
use opentelemetry_otlp::{MetricExporter, SpanExporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::trace::{self, SpanData};

/// The account of what was delivered.
#[derive(Debug, Clone, Default)]
pub struct Delivery(Arc<Account>);

#[derive(Debug, Default)]
struct Account {
    /// Spans that were begun, and those of them that the collector has taken.
    begun: AtomicU64,
    taken: AtomicU64,
    /// Whether the last metrics were not taken. Each holds what those before it held.
    metrics_missing: AtomicBool,
    /// Why something was not taken, the last time.
    failure: Mutex<Option<String>>,
}

impl Delivery {
    /// A span was begun that the collector should see.
    pub fn expect(&self, span: &impl Span) {
        if span.span_context().is_sampled() {
            self.0.begun.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What the collector did not take, and why; `None` if it took everything.
    pub fn lost(&self) -> Option<String> {
        let begun = self.0.begun.load(Ordering::Relaxed);
        let spans = begun.saturating_sub(self.0.taken.load(Ordering::Relaxed));
        let metrics = self.0.metrics_missing.load(Ordering::Relaxed);
        let what = match (spans, metrics) {
            (0, false) => return None,
            (0, true) => "the metrics were".to_owned(),
            (_, false) => format!("{spans} of {begun} spans were"),
            (_, true) => format!("{spans} of {begun} spans and the metrics were"),
        };
        let failure = self.0.failure.lock();
        let failure = failure.unwrap_or_else(PoisonError::into_inner);
        let why = failure.as_deref();
        let why = why.unwrap_or("the collector takes them too slowly");
        Some(format!("{what} not delivered as telemetry: {why}"))
    }

    fn note(&self, result: &OTelSdkResult) {
        if let Err(error) = result {
            let mut failure = self.0.failure.lock();
            let failure = failure.as_deref_mut();
            if let Ok(failure) = failure {
                *failure = Some(error.to_string());
            }
        }
    }
}

/// Sends spans, and counts those that arrive.
#[derive(Debug)]
pub struct Counted {
    exporter: SpanExporter,
    delivery: Delivery,
}

impl Counted {
    pub fn new(exporter: SpanExporter, delivery: &Delivery) -> Self {
        let delivery = delivery.clone();
        Self { exporter, delivery }
    }
}

impl trace::SpanExporter for Counted {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len() as u64;
        let result = self.exporter.export(batch).await;
        self.delivery.note(&result);
        if result.is_ok() {
            self.delivery.0.taken.fetch_add(count, Ordering::Relaxed);
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// Sends metrics, and notes down whether they arrive.
pub struct Watched {
    exporter: MetricExporter,
    delivery: Delivery,
}

impl Watched {
    pub fn new(exporter: MetricExporter, delivery: &Delivery) -> Self {
        let delivery = delivery.clone();
        Self { exporter, delivery }
    }
}

impl PushMetricExporter for Watched {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let missing = &self.delivery.0.metrics_missing;
        missing.store(true, Ordering::Relaxed);
        let result = self.exporter.export(metrics).await;
        self.delivery.note(&result);
        missing.store(result.is_err(), Ordering::Relaxed);
        result
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}
