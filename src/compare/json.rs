//! A comparison as JSON: every figure of every round. Pure.

use super::figures::Figure;
use super::setup::{Contestant, Setup};
use super::{Comparison, SCHEMA, text, words};
use serde_json::{Map, Value, json};

/// One object.
pub(super) fn json(all: &Comparison) -> Value {
    let contestants: Vec<_> = Contestant::ALL
        .iter()
        .map(|one| {
            let setup = Setup::of(*one, all.plan.workers);
            json!({
                "name": one.name(),
                "mode": setup.mode().to_string(),
                "workers": setup.workers(),
                "pool": setup.pool(),
            })
        })
        .collect();
    let figures = Figure::ALL.into_iter();
    let figures = figures.filter(|figure| all.found.figures.has(*figure));
    let figures: Map<_, _> = figures
        .map(|figure| (figure.shown().key.to_owned(), of(all, figure)))
        .collect();
    let bottlenecks = all.found.bottlenecks.iter().map(|one| {
        let (workload, contestant) = (one.workload.name(), one.contestant.name());
        json!({ "workload": workload, "contestant": contestant, "why": one.why })
    });
    let workloads = all.plan.workloads.iter().map(|one| one.name());
    json!({
        "schema": SCHEMA,
        "version": env!("CARGO_PKG_VERSION"),
        "cpus": all.cpus,
        "workers": all.plan.workers,
        "rounds": all.plan.rounds,
        "duration_s": all.plan.duration.as_secs_f64(),
        "light": all.plan.light,
        "heavy": all.plan.has_heavy().then_some(&all.plan.heavy),
        "ended": all.ended,
        "workloads": workloads.collect::<Vec<_>>(),
        "contestants": contestants,
        "figures": figures,
        "generator_bottlenecks": bottlenecks.collect::<Vec<_>>(),
        "sentences": words::sentences(all),
    })
}

/// One figure of all contestants.
fn of(all: &Comparison, figure: Figure) -> Value {
    let shown = figure.shown();
    let mut object = Map::new();
    object.insert("workload".to_owned(), figure.workload().name().into());
    object.insert(
        "what".to_owned(),
        text::with_paths(all, shown.label.trim()).into(),
    );
    object.insert("unit".to_owned(), shown.unit.into());
    for one in Contestant::ALL {
        // What is no number, or more than can be told, is null.
        let rounds = all.found.figures.values(figure, one);
        let spread = all.found.figures.spread(figure, one);
        let value = (!rounds.is_empty()).then(|| {
            json!({
                "median": spread.map(|found| found.median),
                "min": spread.map(|found| found.min),
                "max": spread.map(|found| found.max),
                "rounds": rounds,
            })
        });
        object.insert(one.name().to_owned(), value.into());
    }
    Value::Object(object)
}
