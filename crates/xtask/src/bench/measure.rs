//! Interleaved measuring, medians, and the table.

use anyhow::{Context, Result};

/// One thing to measure: a name and a way to get one value.
pub(super) struct Contestant<'a> {
    name: String,
    run: Box<dyn FnMut() -> Result<f64> + 'a>,
}

impl<'a> Contestant<'a> {
    /// A contestant; `run` gives one measured value.
    pub(super) fn new(name: impl Into<String>, run: impl FnMut() -> Result<f64> + 'a) -> Self {
        Self {
            name: name.into(),
            run: Box::new(run),
        }
    }
}

/// The values of one contestant, sorted.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) name: String,
    values: Vec<f64>,
}

impl Sample {
    /// A sample from values in any order.
    pub(super) fn new(name: impl Into<String>, mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self {
            name: name.into(),
            values,
        }
    }

    /// The middle value; of an even number, the lower of the two.
    pub(super) fn median(&self) -> f64 {
        self.at(1, 2)
    }

    /// The value below which `part` of `whole` lie.
    fn at(&self, part: usize, whole: usize) -> f64 {
        let last = self.values.len().saturating_sub(1);
        self.values
            .get(last * part / whole)
            .copied()
            .unwrap_or(f64::NAN)
    }
}

/// Which end of a ratio is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Better {
    /// Times, memory.
    Lower,
    /// Throughput.
    Higher,
}

/// A promise about the ratio of the subject to one of the others.
#[derive(Debug)]
pub(super) struct Bar {
    /// The other contestant.
    pub(super) against: &'static str,
    /// The ratio that must be met.
    pub(super) ratio: f64,
}

/// Runs every contestant once unmeasured, then `rounds` times in turn.
pub(super) fn interleave(contestants: &mut [Contestant<'_>], rounds: usize) -> Result<Vec<Sample>> {
    let mut values = vec![Vec::with_capacity(rounds); contestants.len()];
    for round in 0..=rounds {
        for (contestant, values) in contestants.iter_mut().zip(&mut values) {
            let value = (contestant.run)().with_context(|| contestant.name.clone())?;
            if round > 0 {
                values.push(value);
            }
        }
    }
    Ok(contestants
        .iter()
        .zip(values)
        .map(|(contestant, values)| Sample::new(&contestant.name, values))
        .collect())
}

/// Prints a table: the first sample is the subject, ratios are subject to other.
pub(super) fn table(title: &str, unit: &str, better: Better, samples: &[Sample], bars: &[Bar]) {
    let Some(subject) = samples.first() else {
        return;
    };
    println!("\n## {title}\n");
    println!(
        "| | median {unit} | 10 % | 90 % | {} / this | bar | |",
        subject.name
    );
    println!("|---|---:|---:|---:|---:|---:|---|");
    for sample in samples {
        let ratio = subject.median() / sample.median();
        let (bar, word) = match bars.iter().find(|bar| bar.against == sample.name) {
            Some(bar) => (
                sign(better, bar.ratio),
                if holds(better, ratio, bar.ratio) {
                    "met"
                } else {
                    "MISSED"
                },
            ),
            None => (String::new(), ""),
        };
        let (low, high) = (sample.at(1, 10), sample.at(9, 10));
        println!(
            "| {} | {:.2} | {low:.2} | {high:.2} | {ratio:.2} | {bar} | {word} |",
            sample.name,
            sample.median()
        );
    }
    for bar in bars
        .iter()
        .filter(|bar| samples.iter().all(|sample| sample.name != bar.against))
    {
        println!(
            "not measured: {} (bar {})",
            bar.against,
            sign(better, bar.ratio)
        );
    }
}

fn sign(better: Better, ratio: f64) -> String {
    match better {
        Better::Lower => format!("<= {ratio:.2}"),
        Better::Higher => format!(">= {ratio:.2}"),
    }
}

fn holds(better: Better, ratio: f64, bar: f64) -> bool {
    match better {
        Better::Lower => ratio <= bar,
        Better::Higher => ratio >= bar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_bars() {
        let sample = Sample::new("x", vec![5.0, 1.0, 3.0]);
        assert!((sample.median() - 3.0).abs() < f64::EPSILON);
        assert!(Sample::new("none", Vec::new()).median().is_nan());
        assert!(holds(Better::Lower, 0.9, 1.0) && !holds(Better::Lower, 1.1, 1.0));
        assert!(holds(Better::Higher, 1.6, 1.5) && !holds(Better::Higher, f64::NAN, 1.5));
    }

    #[test]
    fn contestants_take_turns_and_the_first_round_does_not_count() {
        let order = std::cell::RefCell::new(Vec::new());
        let mut contestants = ["a", "b"].map(|name| {
            let order = &order;
            Contestant::new(name, move || {
                order.borrow_mut().push(name);
                Ok(1.0)
            })
        });
        let samples = interleave(&mut contestants, 2).unwrap();
        assert_eq!(*order.borrow(), ["a", "b", "a", "b", "a", "b"]);
        assert_eq!(samples[0].values.len(), 2);
    }
}
