//! The course of the loss as an SVG. Pure.
//!
//! Plain shapes and text: no script, no style sheet, no font or image from elsewhere. The ground is transparent
//! and every colour has a contrast of at least 3 to 1 against white and against near-black, so that it reads on a
//! light page and on a dark one.

use std::fmt::Write as _;

/// Losses after one optimizer step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    /// Optimizer steps done.
    pub step: u64,
    /// Training loss of the step, in nats.
    pub loss: Option<f64>,
    /// Loss on the validation split, in nats.
    pub evaluation: Option<f64>,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 360.0;
/// Left, right, top and bottom edges of the plot.
const LEFT: f64 = 68.0;
const RIGHT: f64 = WIDTH - 16.0;
const TOP: f64 = 36.0;
const BOTTOM: f64 = HEIGHT - 52.0;
const INK: &str = "#7d7d7d";
const TRAINING: &str = "#3b82f6";
const EVALUATION: &str = "#d9730d";
/// Points of the training line: a longer run shows means of neighbouring steps.
const POINTS: usize = 300;

/// Draws `course`, whose losses are in nats per `unit` (`token`, `example`), with a mark at the step whose weights
/// are published. `None` where there is no line to draw.
pub(super) fn svg(course: &[Point], unit: &str, published: Option<u64>) -> Option<String> {
    let series = |of: fn(&Point) -> Option<f64>| -> Vec<(f64, f64)> {
        course
            .iter()
            .filter_map(|point| Some((point.step as f64, of(point).filter(|loss| loss.is_finite())?)))
            .collect()
    };
    let (training, steps_each) = thinned(&series(|point| point.loss));
    let evaluation = series(|point| point.evaluation);
    if training.len() < 2 && evaluation.len() < 2 {
        return None;
    }
    let all = || training.iter().chain(&evaluation);
    let last = all().map(|(step, _)| *step).fold(1.0, f64::max);
    let (low, high) = all().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), (_, loss)| {
        (low.min(*loss), high.max(*loss))
    });
    let (across, up) = (Axis::over(0.0, last, true), Axis::over(low, high, false));
    let x = |step: f64| LEFT + (RIGHT - LEFT) * across.share(step);
    let y = |loss: f64| BOTTOM - (BOTTOM - TOP) * up.share(loss);

    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\" font-family=\"sans-serif\" font-size=\"13\" fill=\"{INK}\">\n<title>{}</title>\n",
        title(&training, &evaluation)
    );
    for loss in up.ticks() {
        let at = y(loss);
        let _ = writeln!(
            text,
            "<path d=\"M{LEFT} {at:.1}H{RIGHT}\" stroke=\"{INK}\" stroke-opacity=\"0.3\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 8.0,
            at + 4.5,
            up.label(loss)
        );
    }
    for step in across.ticks() {
        let at = x(step);
        let _ = writeln!(
            text,
            "<path d=\"M{at:.1} {BOTTOM}v5\" stroke=\"{INK}\"/><text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            BOTTOM + 20.0,
            across.label(step)
        );
    }
    let middle = f64::midpoint(TOP, BOTTOM);
    let _ = writeln!(
        text,
        "<path d=\"M{LEFT} {TOP}V{BOTTOM}H{RIGHT}\" fill=\"none\" stroke=\"{INK}\"/>\n<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">optimizer step</text>\n<text transform=\"translate(16 {middle:.1}) rotate(-90)\" text-anchor=\"middle\">loss (nats per {unit})</text>",
        f64::midpoint(LEFT, RIGHT),
        HEIGHT - 12.0
    );
    if let Some(step) = published {
        let at = x(step as f64);
        let _ = writeln!(
            text,
            "<path d=\"M{at:.1} {TOP}V{BOTTOM}\" stroke=\"{INK}\" stroke-dasharray=\"4 4\"/>"
        );
    }
    let place = |points: &[(f64, f64)]| -> Vec<String> {
        let points = points.iter();
        points
            .map(|(step, loss)| format!("{:.1} {:.1}", x(*step), y(*loss)))
            .collect()
    };
    let mut legend = Vec::new();
    if !training.is_empty() {
        line(&mut text, &place(&training), TRAINING, 1.5);
        let name = match steps_each {
            0 | 1 => "training".to_owned(),
            each => format!("training (means of {each} points)"),
        };
        legend.push((TRAINING, name));
    }
    if !evaluation.is_empty() {
        let places = place(&evaluation);
        line(&mut text, &places, EVALUATION, 2.0);
        for at in &places {
            let (x, y) = at.split_once(' ').unwrap_or_default();
            let _ = writeln!(
                text,
                "<circle cx=\"{x}\" cy=\"{y}\" r=\"3\" fill=\"{EVALUATION}\"/>"
            );
        }
        legend.push((EVALUATION, "validation".to_owned()));
    }
    if published.is_some() {
        legend.push((INK, "published weights".to_owned()));
    }
    key(&mut text, &legend);
    text.push_str("</svg>\n");
    Some(text)
}

fn title(training: &[(f64, f64)], evaluation: &[(f64, f64)]) -> String {
    let span = |name: &str, points: &[(f64, f64)]| match (points.first(), points.last()) {
        (Some((from, first)), Some((to, last))) => Some(format!(
            "{name} loss {first:.4} at step {from:.0}, {last:.4} at step {to:.0}"
        )),
        _ => None,
    };
    let parts = [span("training", training), span("validation", evaluation)];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn line(text: &mut String, places: &[String], colour: &str, width: f64) {
    if places.len() > 1 {
        let _ = writeln!(
            text,
            "<path d=\"M{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\" stroke-linejoin=\"round\"/>",
            places.join("L")
        );
    }
}

/// Above the plot, from left to right.
fn key(text: &mut String, entries: &[(&str, String)]) {
    let mut at = LEFT;
    for (colour, name) in entries {
        let dashes = if *colour == INK {
            " stroke-dasharray=\"4 4\""
        } else {
            ""
        };
        let _ = writeln!(
            text,
            "<path d=\"M{at:.0} 18h20\" stroke=\"{colour}\" stroke-width=\"3\"{dashes}/><text x=\"{:.0}\" y=\"22\">{name}</text>",
            at + 26.0
        );
        at += 26.0 + 7.5 * name.len() as f64 + 24.0;
    }
}

/// Means of neighbouring points, and how many make one. Every point counts in exactly one mean.
fn thinned(points: &[(f64, f64)]) -> (Vec<(f64, f64)>, usize) {
    let each = points.len().div_ceil(POINTS);
    let mean = |group: &[(f64, f64)], of: fn(&(f64, f64)) -> f64| {
        group.iter().map(of).sum::<f64>() / group.len() as f64
    };
    let means = points
        .chunks(each.max(1))
        .map(|group| (mean(group, |point| point.0), mean(group, |point| point.1)));
    (means.collect(), each)
}

/// A scale whose ends are multiples of a round tick.
struct Axis {
    low: f64,
    high: f64,
    tick: f64,
}

impl Axis {
    /// Four to eight ticks a 1, 2 or 5 times a power of ten apart; `whole`: at least 1 apart, and ending where the data end.
    fn over(low: f64, high: f64, whole: bool) -> Self {
        // One value alone still needs a scale.
        let span = if high > low {
            high - low
        } else {
            low.abs().max(1.0) * 0.1
        };
        let power = 10f64.powf((span / 5.0).log10().floor());
        let tick = [1.0, 2.0, 5.0, 10.0]
            .map(|factor| factor * power)
            .into_iter()
            .find(|tick| span / tick <= 7.0)
            .unwrap_or(10.0 * power);
        let tick = if whole { tick.max(1.0) } else { tick };
        let (low, end) = ((low / tick).floor() * tick, (high / tick).ceil() * tick);
        let high = if whole { high } else { end.max(low + tick) };
        Self { low, high, tick }
    }

    fn share(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        let count = ((self.high - self.low) / self.tick + 1e-9).floor() as u32;
        (0..=count).map(|number| self.low + f64::from(number) * self.tick)
    }

    fn label(&self, value: f64) -> String {
        let decimals = (-self.tick.log10().floor()).max(0.0) as usize;
        let text = format!("{value:.decimals$}");
        // A sum of ticks may end at minus nothing.
        if text.trim_start_matches(['-', '0', '.']).is_empty() {
            return text.trim_start_matches('-').to_owned();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn falling(steps: u64) -> Vec<Point> {
        (1..=steps)
            .map(|step| Point {
                step,
                loss: Some(2.0 / (step as f64).sqrt()),
                evaluation: step.is_multiple_of(10).then(|| 0.1 + 2.0 / (step as f64).sqrt()),
            })
            .collect()
    }

    #[test]
    fn a_curve_has_both_lines_axes_with_units_and_nothing_that_runs_or_loads() {
        let text = svg(&falling(50), "token", Some(40)).unwrap();
        for said in [
            ">optimizer step<",
            "loss (nats per token)",
            ">training<",
            ">validation<",
            ">published weights<",
            "stroke-dasharray",
        ] {
            assert!(text.contains(said), "`{said}` is not in:\n{text}");
        }
        for unwanted in ["<script", "href", "url(", "<style", "NaN", "inf", "on"] {
            let found = text.match_indices(unwanted).any(|(at, _)| {
                // `on…=` would be a handler; "validation" is not.
                unwanted != "on" || text[at..].starts_with("on") && text[..at].ends_with(' ')
            });
            assert!(!found, "{unwanted}");
        }
        assert_eq!(text.matches("<circle").count(), 5);
    }

    #[test]
    fn the_same_course_is_the_same_picture() {
        assert_eq!(
            svg(&falling(2000), "token", None),
            svg(&falling(2000), "token", None)
        );
    }

    #[test]
    fn a_long_run_shows_means_of_every_step() {
        let (points, each) = thinned(&(0..1000).map(|n| (f64::from(n), 1.0)).collect::<Vec<_>>());
        assert_eq!((points.len(), each), (250, 4));
        assert!(points.iter().all(|point| (point.1 - 1.0).abs() < 1e-12));
        assert!((points[0].0 - 1.5).abs() < 1e-12);
    }

    #[test]
    fn everything_stands_within_the_plot() {
        let huge = [1e-9, 3e7, 0.5, 12.25].map(|scale| {
            falling(30)
                .into_iter()
                .map(|point| Point {
                    loss: point.loss.map(|loss| loss * scale),
                    ..point
                })
                .collect::<Vec<_>>()
        });
        for course in huge {
            let text = svg(&course, "example", None).unwrap();
            let line = text.lines().find(|line| line.contains(TRAINING)).unwrap();
            let path = line.split('"').nth(1).unwrap().trim_start_matches('M');
            for place in path.split('L') {
                let (x, y) = place.split_once(' ').unwrap();
                let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
                assert!(
                    (LEFT..=RIGHT).contains(&x) && (TOP..=BOTTOM).contains(&y),
                    "{place}"
                );
            }
        }
    }

    #[test]
    fn ticks_are_round_and_few() {
        for (low, high) in [(0.03, 2.71), (0.4, 0.4), (1e-6, 3e-6), (0.0, 5e8), (0.69, 0.7)] {
            let axis = Axis::over(low, high, false);
            let count = axis.ticks().count();
            assert!((2..=10).contains(&count), "{low} to {high}: {count} ticks");
            assert!(axis.low <= low && axis.high >= high);
        }
        let labels: Vec<String> = {
            let axis = Axis::over(0.0, 90.0, true);
            axis.ticks().map(|tick| axis.label(tick)).collect()
        };
        assert_eq!(labels, ["0", "20", "40", "60", "80"]);
    }

    #[test]
    fn nothing_to_show_is_no_picture() {
        assert_eq!(svg(&[], "token", None), None);
        assert_eq!(svg(&falling(1), "token", None), None);
        let broken = [1, 2].map(|step| Point {
            step,
            loss: Some(f64::NAN),
            evaluation: None,
        });
        assert_eq!(svg(&broken, "token", None), None);
    }
}
