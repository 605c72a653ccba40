//! The course of a simulated call: random, from distributions like those of real campaigns, and equal for equal seeds.

use domain::{
    Personal,
    call::Turn,
    count,
    outcome::Outcome,
    skillbase::config::{FlowState, SkillbaseConfig},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use rand_distr::{Distribution as _, LogNormal};
use rust_decimal::Decimal;

use super::super::provider::Placement;

/// A call from the first ring to its end.
#[derive(Clone, Debug)]
pub struct Script {
    pub ring_ms: u64,
    /// Each turn and its duration in milliseconds; empty if the call is not answered.
    pub turns: Vec<(Turn, u64)>,
    pub talk_ms: u64,
    pub outcome: Outcome,
    pub final_state: Option<String>,
    pub hangup_by: &'static str,
}

/// Frequency of each outcome in a cold campaign, in percent.
const OUTCOMES: [(Outcome, u32); 5] =
    [(Outcome::Success, 34), (Outcome::Fail, 26), (Outcome::Voicemail, 15), (Outcome::NoAnswer, 18), (Outcome::Busy, 7)];
/// Medians of the latencies in milliseconds, and standard deviations of their logarithms.
const STT_MS: (f64, f64) = (180.0, 0.35);
const LLM_MS: (f64, f64) = (420.0, 0.45);
const TTS_MS: (f64, f64) = (130.0, 0.40);
/// Speed of human and synthetic speech, in characters per second.
const CHARACTERS_PER_SEC: f64 = 15.0;
/// Share of agent turns that the callee interrupts, in percent.
const INTERRUPTED_PERCENT: u32 = 8;
/// Approximate number of characters per token.
const CHARACTERS_PER_TOKEN: i64 = 4;

const OPENINGS: &[&str] = &["Hello?", "Yes, speaking.", "Hi, who is this?", "Hello, this is me."];
const CURIOUS: &[&str] = &[
    "Okay, tell me more.",
    "And what would that cost?",
    "How long does it take?",
    "When would that be possible?",
    "I have heard of that, go on.",
    "Could you say that again, please?",
];
const AGREEING: &[&str] = &["Sounds good, book it.", "That works for me, see you then.", "Yes, I agree, sign me up."];
const REFUSING: &[&str] = &["No thanks, not interested.", "Please stop calling.", "I think you have the wrong number."];
const EXPLAINING: &[&str] = &[
    "We have a few free slots this week, in the morning and in the afternoon.",
    "It takes about half an hour, and there is nothing to prepare.",
    "There is no charge for the first appointment.",
    "You can change or cancel it at any time, just give us a ring.",
    "I can send you a confirmation right after this call.",
];

/// Generates the script of a call from a seed.
pub fn draw(seed: u64, placement: &Placement) -> Script {
    // A UUIDv7 begins with the time; its second half is random.
    let (_, random) = placement.call_id.as_u64_pair();
    let mut dice = Dice { rng: StdRng::seed_from_u64(seed ^ random.swap_bytes()), context_characters: 0 };
    let outcome = dice.outcome();
    match outcome {
        Outcome::NoAnswer => silent(&mut dice, outcome, 25_000..30_000, "system"),
        Outcome::Busy => silent(&mut dice, outcome, 1_000..3_000, "callee"),
        Outcome::Voicemail => voicemail(&mut dice),
        Outcome::Success | Outcome::Fail => conversation(&mut dice, outcome, placement),
    }
}

fn silent(dice: &mut Dice, outcome: Outcome, ring_ms: std::ops::Range<u64>, hangup_by: &'static str) -> Script {
    Script { ring_ms: dice.rng.random_range(ring_ms), turns: Vec::new(), talk_ms: 0, outcome, final_state: None, hangup_by }
}

fn voicemail(dice: &mut Dice) -> Script {
    let greeting = "You have reached my mailbox. Please leave a message after the tone.";
    let turn = dice.turn(0, Some(greeting), "I will try again at another time. Goodbye.", "voicemail");
    let talk_ms = turn.1;
    let (ring_ms, final_state) = (dice.rng.random_range(15_000..24_000), Some("voicemail_left".to_owned()));
    Script { ring_ms, turns: vec![turn], talk_ms, outcome: Outcome::Voicemail, final_state, hangup_by: "agent" }
}

fn conversation(dice: &mut Dice, outcome: Outcome, placement: &Placement) -> Script {
    let states = states(placement.config.as_deref());
    let exchanges = if outcome == Outcome::Success { dice.rng.random_range(4..11) } else { dice.rng.random_range(1..5) };
    let name = placement.contact_name.as_ref().map_or("", |name| name.reveal().as_str());
    let greeting = if name.is_empty() {
        "Hello, I am calling about your appointment.".to_owned()
    } else {
        format!("Hello {name}, I am calling about your appointment.")
    };
    let (last_words, goodbye, final_state) = match outcome {
        Outcome::Success => (AGREEING, "Wonderful, you are booked. Goodbye!", "booked"),
        _ => (REFUSING, "I understand. Sorry to have bothered you, goodbye.", "refused"),
    };
    let state = |i: u32| {
        let at = states.len() * i as usize / (exchanges as usize + 2);
        states.get(at).map_or("conversation", String::as_str)
    };
    let opening = dice.pick(OPENINGS);
    let mut turns = vec![dice.turn(0, Some(opening), &greeting, state(0))];
    for i in 1..=exchanges {
        let (question, answer) = (dice.pick(CURIOUS), dice.pick(EXPLAINING));
        turns.push(dice.turn(i, Some(question), answer, state(i)));
    }
    let words = dice.pick(last_words);
    turns.push(dice.turn(exchanges + 1, Some(words), goodbye, state(exchanges + 1)));
    let talk_ms = turns.iter().map(|(_, lasts_ms)| lasts_ms).sum();
    let hangup_by = if outcome == Outcome::Success { "agent" } else { "callee" };
    Script { ring_ms: dice.rng.random_range(4_000..18_000), turns, talk_ms, outcome, final_state: Some(final_state.to_owned()), hangup_by }
}

fn states(config: Option<&SkillbaseConfig>) -> Vec<String> {
    config.map(|c| c.flow.states.iter().map(FlowState::name).map(str::to_owned).collect()).unwrap_or_default()
}

struct Dice {
    rng: StdRng,
    /// Number of characters that the language model reads with every turn.
    context_characters: i64,
}

impl Dice {
    fn outcome(&mut self) -> Outcome {
        let mut left = self.rng.random_range(0..OUTCOMES.iter().map(|(_, weight)| weight).sum());
        for (outcome, weight) in OUTCOMES {
            if left < weight {
                return outcome;
            }
            left -= weight;
        }
        Outcome::NoAnswer
    }

    fn pick(&mut self, texts: &[&'static str]) -> &'static str {
        texts.choose(&mut self.rng).copied().unwrap_or_default()
    }

    /// A latency in microseconds: log-normal around the median.
    #[expect(clippy::cast_possible_truncation, reason = "seconds in microseconds fit an i64")]
    fn latency_us(&mut self, (median_ms, sigma): (f64, f64)) -> i64 {
        let ms = LogNormal::new(median_ms.ln(), sigma).map_or(median_ms, |d| d.sample(&mut self.rng));
        (ms.clamp(1.0, 10_000.0) * 1_000.0).round() as i64
    }

    /// A turn in which the callee and then the agent speak, and how long it lasts in milliseconds.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "short texts")]
    fn turn(&mut self, turn_index: u32, user_text: Option<&str>, agent_text: &str, state: &str) -> (Turn, u64) {
        let characters = |text: &str| count::to_i64(text.chars().count());
        let spoken_ms = |characters: i64| (characters as f64 / CHARACTERS_PER_SEC * 1_000.0).round() as i64;
        let (heard, said) = (user_text.map_or(0, characters), characters(agent_text));
        let (stt, llm, tts) = (self.latency_us(STT_MS), self.latency_us(LLM_MS), self.latency_us(TTS_MS));
        self.context_characters += heard;
        let turn = Turn {
            turn_index,
            user_text: user_text.map(|text| Personal::new(text.to_owned())),
            agent_text: Some(Personal::new(agent_text.to_owned())),
            state: Some(Personal::new(state.to_owned())),
            ttfb_stt_us: Some(stt),
            latency_llm_us: Some(llm),
            ttfb_tts_us: Some(tts),
            eou_latency_us: Some(stt + llm + tts),
            stt_duration_sec: Some(Decimal::new(spoken_ms(heard), 3).normalize()),
            llm_input_tokens: Some((600 + self.context_characters) / CHARACTERS_PER_TOKEN),
            llm_output_tokens: Some(said / CHARACTERS_PER_TOKEN + 1),
            tts_characters: Some(said),
            interrupted: self.rng.random_range(0..100) < INTERRUPTED_PERCENT,
            stt_provider: Some("deepgram".to_owned()),
            llm_provider: Some("groq".to_owned()),
            llm_model: Some("llama-3.1-8b-instant".to_owned()),
            tts_provider: Some("cartesia".to_owned()),
            ..Turn::default()
        };
        self.context_characters += said;
        let lasts_ms = spoken_ms(heard) + spoken_ms(said) + (stt + llm + tts) / 1_000;
        (turn, lasts_ms as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use domain::call::{CallSubject, Direction};
    use uuid::Uuid;

    use super::*;

    fn placement(n: u128) -> Placement {
        let subject = CallSubject {
            campaign_id: None,
            task_id: None,
            skillbase_id: None,
            skillbase_version: None,
            direction: Direction::Outbound,
            person_id: None,
            phone_number: "+12025550100".to_owned().into(),
        };
        Placement { call_id: Uuid::from_u128(n), subject, contact_name: None, config: None }
    }

    #[test]
    fn the_same_seed_draws_the_same_call() {
        let script = |seed, n| format!("{:?}", draw(seed, &placement(n)));
        assert_eq!(script(1, 7), script(1, 7));
        assert!((0..20).any(|n| script(1, n) != script(2, n)));
    }

    #[test]
    fn outcomes_come_about_as_often_as_they_should() {
        let mut counts: BTreeMap<Outcome, u32> = BTreeMap::new();
        for n in 0..4_000 {
            *counts.entry(draw(3, &placement(n)).outcome).or_default() += 1;
        }
        for (outcome, percent) in OUTCOMES {
            let found = counts[&outcome];
            assert!(found.abs_diff(percent * 40) < 120, "{outcome}: {found}");
        }
    }

    #[test]
    fn every_turn_is_one_a_real_agent_could_send() {
        for n in 0..500 {
            let mut invalid = domain::validation::Invalid::default();
            let script = draw(5, &placement(n));
            script.turns.iter().for_each(|(turn, _)| turn.validate("", &mut invalid));
            assert_eq!(invalid.into_result(), Ok(()));
            assert!(script.turns.iter().map(|(turn, _)| turn.turn_index).eq(0..u32::try_from(script.turns.len()).unwrap()));
        }
    }
}
