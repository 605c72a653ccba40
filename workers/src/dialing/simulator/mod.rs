//! The provider `simulator`: simulates calls within the process, with a script that is generated from the call's id.

mod script;

use std::time::Duration;

use async_trait::async_trait;
use eventstore::now;
use rust_decimal::Decimal;

pub use script::{Script, draw};

use super::provider::{Ended, Line, Placement, Provider, ProviderError};

/// The name in a campaign's `dialed_by`.
pub const NAME: &str = "simulator";

/// Plays scripts at `speed` times real time.
pub struct Simulator {
    /// Mixed into every call's seed: a different seed gives different calls.
    pub seed: u64,
    pub speed: f64,
}

impl Simulator {
    async fn pass(&self, simulated_ms: u64) {
        let real = Duration::from_millis(simulated_ms).div_f64(self.speed.max(0.001));
        tokio::time::sleep(real).await;
    }
}

#[async_trait]
impl Provider for Simulator {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn place(&self, placement: &Placement, line: &Line<'_>) -> Result<Ended, ProviderError> {
        let script = draw(self.seed, placement);
        self.pass(script.ring_ms).await;
        if !script.turns.is_empty() {
            line.answered(&placement.subject, now()).await?;
        }
        for (turn, lasts_ms) in script.turns {
            self.pass(lasts_ms).await;
            line.turn(turn).await?;
        }
        Ok(Ended {
            outcome: script.outcome,
            final_state: script.final_state,
            hangup_by: Some(script.hangup_by.to_owned()),
            duration_sec: Some((Decimal::from(script.talk_ms) / Decimal::ONE_THOUSAND).normalize()),
        })
    }
}
