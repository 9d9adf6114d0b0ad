//! What the figures say, in sentences. Pure: each sentence follows from figures by a rule.

use super::Comparison;
use super::figures::{Figure, Spread, Workload};
use super::setup::Contestant;
use super::text::{number, with_paths};

/// The noise of one round, which cannot be seen: a tenth of the figure.
const NOISE_OF_ONE: f64 = 0.1;

/// Less than that is never called a difference.
const LEAST_DIFFERENCE: f64 = 0.03;

/// From this share of the CPUs on, they are what limits.
const USED_UP: f64 = 0.9;

/// A worker less of the work than this is called unfair.
const FAIR: f64 = 0.9;

/// One figure against another.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    /// By that factor, above 1; infinite against nothing.
    More(f64),
    Less(f64),
    /// No further apart than the rounds of one.
    Alike,
}

fn judge(a: Spread, b: Spread) -> Verdict {
    let noise = |one: Spread| match one.count {
        1 => NOISE_OF_ONE * one.median,
        _ => one.max - one.min,
    };
    let (least, most) = (a.median.min(b.median), a.median.max(b.median));
    let apart = most - least;
    if apart <= noise(a).max(noise(b)) || apart <= LEAST_DIFFERENCE * most {
        return Verdict::Alike;
    }
    match a.median > b.median {
        true => Verdict::More(most / least),
        false => Verdict::Less(most / least),
    }
}

/// How a figure is spoken of; `{light}` and `{heavy}` stand for the paths.
struct Phrase {
    figure: Figure,
    start: &'static str,
    verb: &'static str,
    much: &'static str,
    what: &'static str,
}

const RATE: Phrase = Phrase {
    figure: Figure::HelloRate,
    start: "On {light}, ",
    verb: "answered",
    much: "many",
    what: "requests a second",
};

const CPU: Phrase = Phrase {
    figure: Figure::HelloCpu,
    start: "For one request to {light}, ",
    verb: "took",
    much: "much",
    what: "CPU time",
};

const MEMORY: Phrase = Phrase {
    figure: Figure::MemoryLoad,
    start: "Under load, ",
    verb: "took",
    much: "much",
    what: "memory",
};

const STARTUP: Phrase = Phrase {
    figure: Figure::StartUp,
    start: "From start to first answer, ",
    verb: "took",
    much: "much",
    what: "time",
};

const POOL_WAIT: Phrase = Phrase {
    figure: Figure::MixedP99,
    start: "While {heavy} was busy, visitors of {light} at ",
    verb: "waited (p99)",
    much: "much",
    what: "time",
};

const POOL_WORK: Phrase = Phrase {
    figure: Figure::HeavyRate,
    start: "On {heavy}, ",
    verb: "answered",
    much: "many",
    what: "requests a second",
};

/// Two values with their unit.
fn pair(a: Spread, b: Spread, figure: Figure) -> String {
    let unit = match figure.shown().unit {
        "" | "1/s" => String::new(),
        unit => format!(" {unit}"),
    };
    if is_over(a, figure) || is_over(b, figure) {
        return format!("{} against {}", amount(a, figure), amount(b, figure));
    }
    let (a, b) = (number(a.median), number(b.median));
    format!("{a} against {b}{unit}")
}

/// One value with its unit.
fn amount(one: Spread, figure: Figure) -> String {
    match figure.limit() {
        Some((_, time)) if is_over(one, figure) => format!("more than {time}"),
        _ => format!("{} {}", number(one.median), figure.shown().unit),
    }
}

/// Whether it is past what can be told apart.
fn is_over(one: Spread, figure: Figure) -> bool {
    figure.limit().is_some_and(|(limit, _)| one.median >= limit)
}

/// `12 % more`, or `2.4 times as much`.
fn by(ratio: f64, much: &str, what: &str) -> String {
    match ratio {
        ratio if ratio < 2.0 => format!("{:.0} % more {what} than", (ratio - 1.0) * 100.0),
        ratio => format!("{} times as {much} {what} as", number(ratio)),
    }
}

/// Who has more of a figure, the greater one first.
fn against(all: &Comparison, phrase: &Phrase, a: Contestant, b: Contestant) -> Option<String> {
    let figure = phrase.figure;
    let of = |one| all.found.figures.spread(figure, one);
    let (mine, other) = (of(a)?, of(b)?);
    let &Phrase {
        start,
        verb,
        much,
        what,
        ..
    } = phrase;
    let more = |a, b, ratio: f64, more, less| {
        let least = match is_over(more, figure) {
            true => "at least ",
            false => "",
        };
        let values = pair(more, less, figure);
        // Against nothing there is no ratio.
        ratio.is_finite().then(|| {
            format!(
                "{start}{a} {verb} {least}{} {b} ({values}).",
                by(ratio, much, what)
            )
        })
    };
    match judge(mine, other) {
        Verdict::More(ratio) => more(a, b, ratio, mine, other),
        Verdict::Less(ratio) => more(b, a, ratio, other, mine),
        Verdict::Alike => Some(format!(
            "{start}{a} and {b} {verb} as {much} {what} ({}): no difference beyond the noise.",
            pair(mine, other, figure)
        )),
    }
}

/// All that can be said.
pub(super) fn sentences(all: &Comparison) -> Vec<String> {
    use Contestant::{Pool, Processes, Threads};
    let rules = [
        against(all, &RATE, Processes, Threads),
        against(all, &CPU, Processes, Threads),
        scaling(all),
        isolation(all),
        against(all, &POOL_WAIT, Processes, Pool),
        against(all, &POOL_WORK, Processes, Pool),
        against(all, &STARTUP, Processes, Threads),
    ];
    let mut said: Vec<_> = rules.into_iter().flatten().collect();
    said.extend(
        Contestant::ALL
            .iter()
            .filter_map(|one| while_busy(all, *one)),
    );
    let compared = !said.is_empty();
    said.extend(Contestant::ALL.iter().filter_map(|one| crash(all, *one)));
    let isolated = crashes(all);
    let compared = compared || isolated.is_some();
    said.extend(isolated);
    said.extend(unfair(all));
    said.extend(failures(all));
    said.extend(deaths(all));
    said.extend(generator(all));
    if compared && is_noise_assumed(all) {
        let noise = NOISE_OF_ONE * 100.0;
        said.push(format!(
            "One round does not show its noise: {noise:.0} % was assumed."
        ));
    }
    if let Some(why) = &all.ended {
        said.insert(0, format!("Not all of it was measured: {why}."));
    }
    said.iter().map(|one| with_paths(all, one)).collect()
}

/// Whether something was compared that was measured but once.
fn is_noise_assumed(all: &Comparison) -> bool {
    let compared = [
        Figure::HelloRate,
        Figure::HelloCpu,
        Figure::HeavyRate,
        Figure::MixedP99,
        Figure::CrashFailed,
        Figure::MemoryLoad,
        Figure::StartUp,
    ];
    let once = |figure: &Figure| {
        let spreads = Contestant::ALL.map(|one| all.found.figures.spread(*figure, one));
        spreads.iter().flatten().any(|found| found.count == 1)
    };
    compared.iter().any(once)
}

/// How much several workers gave over one, and why not more, where that was measured.
fn scaling(all: &Comparison) -> Option<String> {
    let figure = Figure::HeavyRate;
    let of = |one| all.found.figures.spread(figure, one);
    let (one, several) = (of(Contestant::One)?, of(Contestant::Processes)?);
    let (workers, cpus) = (all.plan.workers, all.cpus);
    if workers == 1 {
        return Some("With one worker there is nothing to scale.".to_owned());
    }
    let values = pair(several, one, figure);
    let start = format!("On {{heavy}}, {workers} workers");
    let used = all
        .found
        .figures
        .spread(Figure::HeavyCpus, Contestant::Processes);
    let used_up = used.is_some_and(|used| used.median >= USED_UP * cpus as f64);
    let ratio = match judge(several, one) {
        Verdict::Less(ratio) => {
            let less = by(ratio, "many", "requests a second");
            return Some(format!(
                "On {{heavy}}, one worker answered {less} {workers} workers ({}).",
                pair(one, several, figure)
            ));
        }
        Verdict::Alike => {
            let why = match cpus {
                1 if used_up => ": there is but one CPU",
                _ => ": no difference beyond the noise",
            };
            return Some(format!("{start} gave no more than one ({values}){why}."));
        }
        Verdict::More(ratio) => ratio,
    };
    let gained = format!(
        "{start} gave {} times what one gave ({values})",
        number(ratio)
    );
    let least = workers as f64 * FAIR;
    Some(match ratio {
        ratio if ratio >= least => format!("{gained}: as good as all that {workers} can give."),
        _ if !used_up => {
            format!("{gained}, not {workers} times. The figures do not tell why.")
        }
        _ if workers > cpus => {
            let cpus = match cpus {
                1 => "there is but 1 CPU".to_owned(),
                cpus => format!("there are but {cpus} CPUs"),
            };
            format!("{gained}, not {workers} times: {cpus}.")
        }
        _ => format!(
            "{gained}, not {workers} times: the load generator and the primary need their part of \
             the {cpus} CPUs."
        ),
    })
}

/// What isolation costs in memory.
fn isolation(all: &Comparison) -> Option<String> {
    let of = |one| all.found.figures.spread(MEMORY.figure, one);
    let (processes, threads) = (of(Contestant::Processes)?, of(Contestant::Threads)?);
    let said = against(all, &MEMORY, Contestant::Processes, Contestant::Threads)?;
    let workers = all.plan.workers as f64;
    let each = number((processes.median - threads.median).abs() / workers);
    Some(match judge(processes, threads) {
        Verdict::More(_) => format!("{said} Isolation costs {each} MiB a worker."),
        Verdict::Less(_) => format!("{said} Sharing saved no memory here."),
        Verdict::Alike => format!("{said} Isolation costs no memory here."),
    })
}

/// What heavy work did to the light work beside it.
fn while_busy(all: &Comparison, one: Contestant) -> Option<String> {
    let figure = Figure::MixedP99;
    let of = |figure| all.found.figures.spread(figure, one);
    let (busy, idle) = (of(figure)?, of(Figure::MixedIdle)?);
    let over = is_over(busy, figure);
    let values = match over || is_over(idle, figure) {
        true => format!("from {} to {}", amount(idle, figure), amount(busy, figure)),
        false => format!("from {} to {} ms", number(idle.median), number(busy.median)),
    };
    let start = format!("{one}: while {{heavy}} was busy, p99 of {{light}}");
    Some(match judge(busy, idle) {
        Verdict::More(ratio) => {
            let least = if over { "at least " } else { "" };
            let times = match ratio.is_finite() {
                true => format!(" ({least}{} times)", number(ratio)),
                false => String::new(),
            };
            format!("{start} rose {values}{times}.")
        }
        Verdict::Less(_) => format!("{start} fell {values}."),
        Verdict::Alike => format!("{start} did not change beyond the noise ({values})."),
    })
}

/// Whether isolation was worth something in a crash.
fn crashes(all: &Comparison) -> Option<String> {
    let figure = Figure::CrashFailed;
    let of = |one| all.found.figures.spread(figure, one);
    let (processes, threads) = (of(Contestant::Processes)?, of(Contestant::Threads)?);
    let pair = pair(processes, threads, figure);
    Some(match judge(processes, threads) {
        Verdict::Less(_) => format!(
            "Isolation saved requests in a crash: processes lost fewer than threads ({pair})."
        ),
        Verdict::More(_) => format!(
            "Isolation saved no request in a crash: processes lost more than threads ({pair})."
        ),
        Verdict::Alike => format!(
            "Processes and threads lost as many requests in a crash ({pair}): no difference \
             beyond the noise."
        ),
    })
}

/// What a crash cost one.
fn crash(all: &Comparison, one: Contestant) -> Option<String> {
    let of = |figure| {
        all.found
            .figures
            .spread(figure, one)
            .map(|found| found.median)
    };
    let (failed, sent) = (of(Figure::CrashFailed)?, of(Figure::CrashSent)?);
    let kinds = [
        (Figure::CrashReset, "reset"),
        (Figure::CrashRefused, "refused"),
        (Figure::CrashClosed, "closed"),
    ];
    let kinds: Vec<_> = kinds
        .into_iter()
        .filter_map(|(figure, word)| {
            let count = of(figure).filter(|count| *count > 0.0)?;
            Some(format!("{} {word}", number(count)))
        })
        .collect();
    let kinds = match kinds.is_empty() {
        true => String::new(),
        false => format!(" ({})", kinds.join(", ")),
    };
    let what = match one {
        Contestant::Threads => "a crash took the whole process, which was started again at once:",
        Contestant::One => "a crash took the only worker:",
        Contestant::Processes | Contestant::Pool => "a crash took one worker:",
    };
    let recovery = match of(Figure::CrashRecovery) {
        Some(millis) if millis.is_finite() => {
            format!("at full strength after {} ms", number(millis))
        }
        Some(_) => "not at full strength within 30 s".to_owned(),
        None => "and it could not be started again".to_owned(),
    };
    let (failed, sent) = (number(failed), number(sent));
    Some(format!(
        "{one}: {what} {failed} of {sent} requests failed{kinds}, {recovery}."
    ))
}

/// Who did not share the work.
fn unfair(all: &Comparison) -> Vec<String> {
    let uneven = |one: &Contestant| {
        let jain = all
            .found
            .figures
            .spread(Figure::HelloFairness, *one)?
            .median;
        (jain < FAIR).then(|| {
            format!("{one}: the workers did not share {{light}} evenly (Jain index {jain:.2}).")
        })
    };
    Contestant::ALL.iter().filter_map(uneven).collect()
}

/// What got no answer, or a bad one.
fn failures(all: &Comparison) -> Vec<String> {
    let kinds = [
        (Figure::HelloFailed, "In hello", "requests for {light}"),
        (Figure::HeavyFailed, "In heavy", "requests for {heavy}"),
        (
            Figure::MixedFailed,
            "While {heavy} was busy",
            "visits of {light}",
        ),
        (Figure::MixedHeavyFailed, "In mixed", "requests for {heavy}"),
        (Figure::MemoryFailed, "In memory", "requests for {light}"),
    ];
    let said = kinds.into_iter().filter_map(|(figure, start, what)| {
        let failed = |one: &Contestant| {
            // Rounds without a failure do not undo those with some.
            let most = all.found.figures.values(figure, *one).iter();
            let most = most.copied().fold(0.0, f64::max);
            (most > 0.0).then(|| format!("{} with {one}", number(most)))
        };
        let failed: Vec<_> = Contestant::ALL.iter().filter_map(failed).collect();
        let up_to = match all.plan.rounds {
            1 => "",
            _ => "up to ",
        };
        (!failed.is_empty()).then(|| {
            format!(
                "{start}, {what} failed ({up_to}{}): rates and CPU times are those of good answers.",
                failed.join(", ")
            )
        })
    });
    said.collect()
}

/// Where nobody was to die.
fn deaths(all: &Comparison) -> Vec<String> {
    let deaths = all.found.deaths.iter().map(|(workload, one)| {
        format!(
            "In {workload}, workers died with {one}: that round has no CPU time and no fairness."
        )
    });
    deaths.collect()
}

/// The generator's part in all this.
fn generator(all: &Comparison) -> Vec<String> {
    let used = |one: &Contestant| all.found.figures.spread(Figure::HelloGenerator, *one);
    let most = Contestant::ALL.iter().filter_map(used);
    let most = most.map(|found| found.median).fold(f64::NAN, f64::max);
    let mut said = Vec::new();
    if most.is_finite() {
        let cpus = match all.cpus {
            1 => "the one CPU".to_owned(),
            cpus => format!("the {cpus} CPUs"),
        };
        said.push(format!(
            "The load generator shared {cpus} with the servers and took up to {most:.1} of them: \
             on machines of their own the servers would do more."
        ));
    }
    for workload in Workload::ALL {
        let found = all.found.bottlenecks.iter();
        let found: Vec<_> = found.filter(|one| one.workload == workload).collect();
        if let Some(first) = found.first() {
            let names: Vec<_> = found[1..].iter().map(|one| one.contestant.name()).collect();
            let too = match names.is_empty() {
                true => String::new(),
                false => format!("; also with {}", names.join(", ")),
            };
            said.push(format!(
                "In {workload} the load generator was likely the bottleneck with {} ({}){too}. The \
                 figures say at least, not how much.",
                first.contestant,
                first.why.trim_end_matches('.')
            ));
        }
    }
    said
}

#[cfg(test)]
#[path = "tests/words.rs"]
mod tests;
