//! What a run tells an OpenTelemetry collector: a span for the run and one for each request, and the metrics of the GenAI
//! conventions, as OTLP over HTTP. The standard variables set it up; without an endpoint nothing happens.
//!
//! What this folder promises: no request waits for it, no run fails by it, and what it holds is bounded. What does not fit
//! into its queue or is not taken in time is lost, counted, and told of once.

mod attempts;
mod delivery;
mod providers;

use std::time::Duration;

use opentelemetry::metrics::MeterProvider;
use opentelemetry::trace::{Status, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context, InstrumentationScope, KeyValue};
use tokio_prompt_orchestrator::{ExitCode, Runner};

use super::log::Log;
use attempts::{Attempts, Instruments, Spans};
use providers::Providers;

/// How long the collector is waited for at the end of a run.
const PATIENCE: Duration = Duration::from_secs(3);

/// A run that a collector is told of.
pub struct Telemetry {
    run: Context,
    providers: Providers,
}

impl Telemetry {
    /// The run, made to tell the collector that the environment names; the run as it is where it names none.
    pub fn of(runner: Runner, log: &Log, warn: impl Fn(&str)) -> (Runner, Option<Self>) {
        let providers = match Providers::from_environment() {
            Ok(Some(providers)) => providers,
            Ok(None) => return (runner, None),
            Err(why) => {
                warn(&format!("no telemetry is sent: {why}"));
                return (runner, None);
            }
        };
        let scope = InstrumentationScope::builder("runner")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build();
        let tracer = providers.spans.as_ref();
        let tracer = tracer.map(|spans| spans.tracer_with_scope(scope.clone()));
        let meter = providers.metrics.as_ref();
        let meter = meter.map(|metrics| metrics.meter_with_scope(scope));
        let run = tracer.as_ref().map_or_else(Context::new, |tracer| {
            let job = KeyValue::new("runner.job", runner.plan().name.clone());
            let span = tracer.span_builder("runner.run").with_attributes([job]);
            let span = span.start_with_context(tracer, &Context::new());
            providers.delivery.expect(&span);
            Context::new().with_span(span)
        });
        let spans = tracer.map(|tracer| Spans {
            tracer,
            run: run.clone(),
            log: log.clone(),
            delivery: providers.delivery.clone(),
        });
        let instruments = meter.as_ref().map(Instruments::new);
        let attempts = Attempts::new(&runner.plan().backends, spans, instruments);
        let runner = runner.with_on_attempt(move |attempt| attempts.tell(attempt));
        (runner, Some(Self { run, providers }))
    }

    /// The run has ended with this code. Waits a moment for the collector, and warns of what it did not take.
    pub fn finish(self, code: ExitCode, warn: impl Fn(&str)) {
        let run = self.run.span();
        run.set_attribute(KeyValue::new("runner.exit_code", i64::from(code.code())));
        if code != ExitCode::Success {
            run.set_status(Status::error(""));
        }
        run.end();
        let delivery = self.providers.delivery.clone();
        self.providers.shut_down(PATIENCE);
        if let Some(lost) = delivery.lost() {
            warn(&lost);
        }
    }

    /// The user leaves at once.
    pub fn abandon(self) {
        self.providers.shut_down(Duration::ZERO);
    }
}
