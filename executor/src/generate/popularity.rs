//! How popular the popular accounts are: Zipf's law, by which the k-th is chosen in proportion to
//! k^-skew.
//!
//! It uses only additions, multiplications and divisions, which are bit-exact on every machine: a
//! chain is identified by its seed, and `powf` differs between platforms.

use super::random::Random;

/// How many accounts are popular. On mainnet a dozen or so contracts receive half of all calls.
pub(super) const POPULAR: u64 = 16;

#[derive(Debug)]
pub(super) struct Popularity {
    /// The weights of the first, the first two, the first three…
    cumulative: Vec<f64>,
}

impl Popularity {
    /// With a skew of zero all are equally popular; with 1 the first is chosen in 30 of 100 cases,
    /// with 2 in 63.
    pub(super) fn new(skew: f64) -> Self {
        let mut logarithm = 0.0;
        let mut sum = 0.0;
        let cumulative = (1..=POPULAR)
            .map(|k| {
                if k > 1 {
                    logarithm += logarithm_of_ratio(k as f64);
                }
                sum += exponential(-skew * logarithm);
                sum
            })
            .collect();
        Self { cumulative }
    }

    /// Draws a rank from 0, the most popular, to [`POPULAR`] - 1.
    pub(super) fn draw(&self, random: &mut Random) -> u64 {
        let at = random.share() * self.cumulative.last().copied().unwrap_or_default();
        let place = self.cumulative.partition_point(|sum| *sum <= at) as u64;
        place.min(POPULAR - 1)
    }
}

/// ln(k / (k - 1)), by the series 2 (x + x³/3 + x⁵/5 + …) with x = 1 / (2k - 1). For k ≥ 2, x ≤
/// 1/3: 20 terms are past the precision of a double.
fn logarithm_of_ratio(k: f64) -> f64 {
    let x = 1.0 / (2.0 * k - 1.0);
    let mut power = x;
    let mut sum = 0.0;
    for n in 0..20 {
        sum += power / f64::from(2 * n + 1);
        power *= x * x;
    }
    2.0 * sum
}

/// e^x for x ≤ 0: that of x / 1024 by its series, squared ten times.
fn exponential(x: f64) -> f64 {
    let small = x / 1024.0;
    let mut term = 1.0;
    let mut sum = 0.0;
    for n in 1..=12 {
        sum += term;
        term *= small / f64::from(n);
    }
    for _ in 0..10 {
        sum *= sum;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_those_of_zipf() {
        for skew in [0.0_f64, 0.5, 1.0, 1.7, 3.0, 10.0] {
            let popularity = Popularity::new(skew);
            let mut before = 0.0;
            for (k, sum) in (1..).zip(&popularity.cumulative) {
                let wanted = f64::from(k).powf(-skew);
                assert!((sum - before - wanted).abs() < 1e-12, "k = {k}, skew = {skew}");
                before = *sum;
            }
        }
    }

    #[test]
    fn the_first_is_drawn_most_often() {
        let (popularity, mut random) = (Popularity::new(1.0), Random::new(7));
        let mut drawn = [0_u32; POPULAR as usize];
        for _ in 0..100_000 {
            if let Some(count) = drawn.get_mut(popularity.draw(&mut random) as usize) {
                *count += 1;
            }
        }
        assert!(drawn[0] > 28_000 && drawn[0] < 31_000, "{drawn:?}");
        assert!(drawn.windows(2).take(4).all(|pair| pair[0] > pair[1]), "{drawn:?}");
    }
}
