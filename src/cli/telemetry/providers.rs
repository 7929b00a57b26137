//! Where to send it, and how, as the environment says.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use opentelemetry::Key;
use opentelemetry_otlp::{MetricExporter, Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;

use super::delivery::{Counted, Delivery, Watched};

const SERVICE: &str = "runner";

/// What takes spans and metrics; at least one of them.
pub struct Providers {
    pub spans: Option<SdkTracerProvider>,
    pub metrics: Option<SdkMeterProvider>,
    pub delivery: Delivery,
}

impl Providers {
    /// Those that the standard variables ask for. An error says what is wrong with them.
    pub fn from_environment() -> Result<Option<Self>, String> {
        if variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        let (traces, metrics) = (protocol("TRACES")?, protocol("METRICS")?);
        if traces.is_none() && metrics.is_none() {
            return Ok(None);
        }
        let (resource, delivery) = (resource(), Delivery::default());
        let spans = traces.map(|protocol| {
            let exporter = SpanExporter::builder().with_http().with_protocol(protocol);
            let exporter = exporter.build().map_err(|error| error.to_string())?;
            let spans = SdkTracerProvider::builder()
                .with_resource(resource.clone())
                .with_batch_exporter(Counted::new(exporter, &delivery));
            Ok::<_, String>(spans.build())
        });
        let metrics = metrics.map(|protocol| {
            let exporter = MetricExporter::builder()
                .with_http()
                .with_protocol(protocol);
            let exporter = exporter.build().map_err(|error| error.to_string())?;
            let metrics = SdkMeterProvider::builder()
                .with_resource(resource.clone())
                .with_periodic_exporter(Watched::new(exporter, &delivery));
            Ok::<_, String>(metrics.build())
        });
        Ok(Some(Self {
            spans: spans.transpose()?,
            metrics: metrics.transpose()?,
            delivery,
        }))
    }

    /// Has everything sent, and waits for that so long at most: a collector that takes its time does so beside the program.
    pub fn shut_down(self, patience: Duration) {
        let (held, all_let_go) = mpsc::channel::<()>();
        if let Some(spans) = self.spans {
            let held = held.clone();
            thread::spawn(move || {
                // What was not delivered was counted.
                let _ = spans.shutdown_with_timeout(patience);
                drop(held);
            });
        }
        if let Some(metrics) = self.metrics {
            thread::spawn(move || {
                let _ = metrics.shutdown_with_timeout(patience);
                drop(held);
            });
        } else {
            drop(held);
        }
        // Nothing comes: this is over when both have let go of their ends.
        let _ = all_let_go.recv_timeout(patience);
    }
}

/// How one of the two is sent; `None` where nobody wants it.
fn protocol(signal: &str) -> Result<Option<Protocol>, String> {
    let set = |what: &str| {
        let names = [
            format!("OTEL_EXPORTER_OTLP_{signal}_{what}"),
            format!("OTEL_EXPORTER_OTLP_{what}"),
        ];
        let set = names.map(|name| variable(&name).map(|value| (name, value)));
        set.into_iter().flatten().next()
    };
    let Some((name, endpoint)) = set("ENDPOINT") else {
        return Ok(None);
    };
    let scheme = endpoint.to_ascii_lowercase();
    if !scheme.starts_with("http://") && !scheme.starts_with("https://") {
        // Not as it is written: it may hold a password.
        return Err(format!("{name} is no address like http://localhost:4318"));
    }
    let Some((name, protocol)) = set("PROTOCOL") else {
        return Ok(Some(Protocol::HttpBinary));
    };
    match protocol.as_str() {
        "http/protobuf" => Ok(Some(Protocol::HttpBinary)),
        "http/json" => Ok(Some(Protocol::HttpJson)),
        _ => Err(format!(
            "{name} is neither http/protobuf nor http/json; a collector that speaks gRPC takes these at another port, \
             mostly 4318"
        )),
    }
}

/// Who is it that sends this, as the environment says; else this program.
fn resource() -> Resource {
    let said = Resource::builder().build();
    let name = said.get(&Key::from_static_str("service.name"));
    let is_said = name.is_some_and(|name| !name.as_str().starts_with("unknown_service"));
    match is_said {
        true => said,
        false => Resource::builder().with_service_name(SERVICE).build(),
    }
}

fn variable(name: &str) -> Option<String> {
    let value = std::env::var(name).ok()?.trim().to_owned();
    (!value.is_empty()).then_some(value)
}
