//! Short dialogues in four languages and the outcome that each must give, played as calls without a final state.

mod texts;

use chrono::DateTime;

use texts::{FIRM_CONSENT, NO_CONSENT, NO_REFUSAL, OPT_OUTS, PERSONS};

use super::Outcome::{self, Busy, Fail, NoAnswer, Success, Voicemail};
use crate::{
    Decider,
    call::{Call, CallCommand, CallSubject, Direction, EndRequest, Turn},
};

enum Line {
    Agent(&'static str),
    Caller(&'static str),
}

use Line::{Agent as A, Caller as C};

/// Each line is a separate turn.
type Dialogue = (&'static [Line], Option<Outcome>);

const VOICEMAIL_GREETINGS: &[Dialogue] = &[
    (&[C("Hi, you've reached Jane. I can't come to the phone right now, please leave a message after the beep.")], Some(Voicemail)),
    (&[C("Sorry I can't talk please leave a message"), A("Hello, this is Acme. We call again tomorrow.")], Some(Voicemail)),
    (&[A("Hello?"), C("The person you are calling is not available."), C("At the tone, please record your message.")], Some(Voicemail)),
    (&[C("I'm out of the office, but leave a message and I'll call you back.")], Some(Voicemail)),
    (
        &[C(
            "Your call has been forwarded to an automated voice messaging system. Jane is not available. At the tone, please record your message.",
        )],
        Some(Voicemail),
    ),
    (&[C("The mailbox is full and cannot accept any messages. Goodbye.")], Some(Voicemail)),
    (&[C("Ha llamado al buzón de voz. Deje su mensaje después de la señal.")], Some(Voicemail)),
    (&[C("En este momento no puedo atenderle, grabe su mensaje al oír la señal.")], Some(Voicemail)),
    (&[C("Dobrý den, dovolali jste se do hlasové schránky. Zanechte vzkaz po zaznění tónu.")], Some(Voicemail)),
    (&[C("Volaný účastník není dostupný, zanechte zprávu.")], Some(Voicemail)),
    (&[C("Здравствуйте, это автоответчик. Оставьте сообщение после сигнала.")], Some(Voicemail)),
    (&[C("Hi, you've reached Anna, leave your name and number and I'll get back to you.")], Some(Voicemail)),
    (&[C("We can't take your call right now. Please leave your name and number.")], Some(Voicemail)),
    (&[C("Deja un mensaje y te llamo.")], Some(Voicemail)),
    (&[C("deja tu mensaje después del bip")], Some(Voicemail)),
    (&[C("Please leave a message, but keep it short.")], Some(Voicemail)),
    (&[C("Hi, it's Jane. Leave your name and number, but I might not call back today.")], Some(Voicemail)),
    (&[C("Deje su mensaje, pero sea breve.")], Some(Voicemail)),
    (&[C("Zanechte vzkaz, ale krátký.")], Some(Voicemail)),
    (&[C("Оставьте сообщение, но покороче.")], Some(Voicemail)),
];

const NETWORK_ANNOUNCEMENTS: &[Dialogue] = &[
    (&[C("The number you have dialed is not available. Please try again later.")], Some(NoAnswer)),
    (&[C("The subscriber's phone is switched off.")], Some(NoAnswer)),
    (&[C("El teléfono al que llama está apagado o fuera de cobertura.")], Some(NoAnswer)),
    (&[C("Volaný účastník není dostupný. Zkuste to prosím později.")], Some(NoAnswer)),
    (&[C("Аппарат абонента выключен или находится вне зоны действия сети.")], Some(NoAnswer)),
    (&[C("The line is busy. Please hang up and try again.")], Some(Busy)),
    (&[C("La línea está ocupada.")], Some(Busy)),
    (&[C("Volané číslo je obsazeno.")], Some(Busy)),
    (&[C("Линия занята, перезвоните позже.")], Some(Busy)),
    (&[C("The customer you are calling is currently unavailable.")], Some(NoAnswer)),
    (&[C("The number you have dialed is not in service.")], Some(NoAnswer)),
    (&[C("Volaná stanice je dočasně nedostupná.")], Some(NoAnswer)),
    (&[C("Набранный вами номер не существует.")], Some(NoAnswer)),
    (&[C("The number you are calling is busy.")], Some(Busy)),
];

const MENUS_AND_OPERATORS: &[Dialogue] = &[
    (&[C("Thank you for calling Northwind. For sales press one, for support press two.")], None),
    (&[C("Press three if you want to leave a message, or hold for an operator."), C("Your call is important to us.")], None),
    (&[C("Para español oprima el dos."), A("Hola")], None),
    (&[C("Pro hovor s operátorem stiskněte jedničku.")], None),
];

const CONSENT: &[Dialogue] = &[
    (&[A("Would Tuesday at ten suit you?"), C("That works for me, see you then.")], Some(Success)),
    (&[A("Shall I put you down?"), C("Sure, sign me up.")], Some(Success)),
    (&[A("Would you like more information?"), C("Yes, I’m interested.")], Some(Success)),
    (&[A("¿Le parece el martes?"), C("Sí, de acuerdo.")], Some(Success)),
    (&[A("¿Algo más?"), C("No, perfecto, nos vemos.")], Some(Success)),
    (&[A("Hodí se vám úterý?"), C("Ano, to mi vyhovuje.")], Some(Success)),
    (&[A("Máte zájem?"), C("Ano, mám zájem.")], Some(Success)),
    (&[A("Вторник вам подходит?"), C("Да, договорились, запишите меня.")], Some(Success)),
    (&[A("Вам интересно?"), C("Да, мне интересно.")], Some(Success)),
];

const REFUSALS: &[Dialogue] = &[
    (&[A("We have an offer."), C("Not interested. Remove me from your list.")], Some(Fail)),
    (&[A("Is this Mr. Smith?"), C("No, you have the wrong number.")], Some(Fail)),
    (&[A("Hello"), C("Stop calling!")], Some(Fail)),
    (&[A("Tenemos una oferta."), C("No me interesa, gracias.")], Some(Fail)),
    (&[A("Tenemos una oferta."), C("No me llamen más.")], Some(Fail)),
    (&[A("Máme nabídku."), C("Ne, nemám zájem.")], Some(Fail)),
    (&[A("Máme nabídku."), C("Prosím nevolejte sem.")], Some(Fail)),
    (&[A("Máme nabídku."), C("Děkuji, nemám o to zájem.")], Some(Fail)),
    (&[A("У нас предложение."), C("Спасибо, не интересно.")], Some(Fail)),
    (&[A("Вам это интересно?"), C("Мне неинтересно.")], Some(Fail)),
    (&[A("Алло"), C("Вы ошиблись номером.")], Some(Fail)),
];

const NEGATIONS: &[Dialogue] = &[
    (&[A("Do you agree?"), C("I agree with nothing.")], Some(Fail)),
    (&[A("Do you agree?"), C("I don't agree.")], Some(Fail)),
    (&[A("Tuesday?"), C("That doesn't work for me.")], Some(Fail)),
    (&[A("Tuesday?"), C("I don't think that works for me.")], None),
    (&[A("You agreed last week."), C("I never said I agree.")], None),
    (&[A("Is this the wrong number?"), C("No, it's not the wrong number. What is it about?")], None),
    (&[A("¿Está de acuerdo?"), C("No estoy de acuerdo.")], Some(Fail)),
    (&[A("¿Quedó la cita?"), C("No está confirmado.")], None),
    (&[A("Souhlasíte?"), C("Nesouhlasím.")], Some(Fail)),
    (&[A("Souhlasíte?"), C("Nemůžu říct, že souhlasím.")], None),
    (&[A("Вы согласны?"), C("Нет, не согласен.")], Some(Fail)),
    (&[A("Вам интересно?"), C("Не думаю, что мне интересно.")], None),
    (&[C("That sounds good but I'm going to pass.")], Some(Fail)),
    (&[C("It sounds good but no, thanks.")], Some(Fail)),
];

const THE_AGENTS_OWN_WORDS: &[Dialogue] = &[
    (&[A("Should I leave a message on your voicemail?"), C("No need, I will be there.")], None),
    (&[A("To opt out say stop calling or remove me."), C("That works for me.")], Some(Success)),
    (&[A("Para no recibir llamadas diga no me llame."), C("Sí, me interesa.")], Some(Success)),
    (&[A("Pokud nechcete volání, řekněte nevolejte."), C("Dobře, domluveno.")], Some(Success)),
    (&[A("Скажите не звоните, чтобы отказаться."), C("Я согласна.")], Some(Success)),
    (&[A("Great, you are booked, see you then!"), C("Hm.")], None),
    (&[A("The line is busy in our office"), C("I see.")], None),
];

const THIRD_PERSONS: &[Dialogue] = &[
    (&[A("Is Bob there?"), C("He is not available, but I can help. We want ten units.")], None),
    (&[A("Is Bob there?"), C("He is not available."), C("I can help you."), C("We want ten units.")], None),
    (&[A("¿Está Juan?"), C("No está disponible, pero yo puedo ayudarle.")], None),
    (&[A("Je tam Jan?"), C("Není dostupný, ale můžu pomoct já.")], None),
    (&[A("Иван дома?"), C("Он не отвечает, но я могу помочь.")], None),
    (&[C("Hello?"), A("Is Bob there?"), C("No. Can I leave a message for him?")], None),
    (&[C("Hello?"), C("Speaking."), C("I got your voicemail yesterday."), C("Sounds good.")], Some(Success)),
];

const SMALL_TALK: &[Dialogue] = &[
    (&[A("Is there anything else I can help you with?"), C("No, thank you.")], None),
    (&[C("Sounds good."), A("Tuesday then."), C("Wait, this is the wrong number.")], None),
    (&[C("If I agree, what does it cost?")], None),
    (&[A("Hello?"), C("...")], None),
];

fn outcome_of(lines: &[Line]) -> Option<Outcome> {
    let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    let turns = (0..).zip(lines).map(|(turn_index, line)| match line {
        Line::Agent(text) => Turn { turn_index, agent_text: Some((*text).to_owned().into()), ..Turn::default() },
        Line::Caller(text) => Turn { turn_index, user_text: Some((*text).to_owned().into()), ..Turn::default() },
    });
    let subject = Box::new(CallSubject {
        campaign_id: None,
        task_id: None,
        skillbase_id: None,
        skillbase_version: None,
        direction: Direction::Outbound,
        person_id: None,
        phone_number: "+12025550100".to_owned().into(),
    });
    let start = CallCommand::Start { subject, started_at: None, now };
    let end = CallCommand::End { request: EndRequest::default(), now };
    let mut state = <Call as Decider>::State::default();
    for command in [start, CallCommand::RecordTurns { turns: turns.collect(), now }, end] {
        let events = Call::decide(&state, command).unwrap();
        events.iter().for_each(|event| Call::evolve(&mut state, event));
    }
    state.present().unwrap().classification.unwrap().outcome
}

#[track_caller]
fn check(dialogues: &[Dialogue]) {
    let wrong = dialogues.iter().filter_map(|(lines, expected)| {
        let told = outcome_of(lines);
        let text: Vec<_> = lines.iter().map(|(Line::Agent(text) | Line::Caller(text))| *text).collect();
        (told != *expected).then(|| format!("{text:?} tells {told:?}, not {expected:?}"))
    });
    let wrong: Vec<_> = wrong.collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[track_caller]
fn check_texts(texts: &[&'static str], expected: Option<Outcome>) {
    let wrong = texts.iter().map(|text| (text, outcome_of(&[C(text)]))).filter(|(_, told)| *told != expected);
    let wrong: Vec<_> = wrong.map(|(text, told)| format!("{text:?} tells {told:?}, not {expected:?}")).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn greetings_of_voicemail_are_voicemail() {
    check(VOICEMAIL_GREETINGS);
}

#[test]
fn announcements_of_the_network_are_no_answer_or_busy() {
    check(NETWORK_ANNOUNCEMENTS);
}

#[test]
fn menus_tell_nothing() {
    check(MENUS_AND_OPERATORS);
}

#[test]
fn consent_is_success() {
    check(CONSENT);
}

#[test]
fn refusals_are_fail() {
    check(REFUSALS);
}

#[test]
fn negated_consent_is_no_success() {
    check(NEGATIONS);
}

#[test]
fn the_agents_own_words_tell_nothing() {
    check(THE_AGENTS_OWN_WORDS);
}

#[test]
fn a_person_who_answers_for_another_is_no_machine() {
    check(THIRD_PERSONS);
}

#[test]
fn small_talk_and_contradictions_tell_nothing() {
    check(SMALL_TALK);
}

#[test]
fn opt_outs_are_fail() {
    check_texts(OPT_OUTS, Some(Fail));
}

#[test]
fn a_refusal_that_is_denied_or_asked_about_tells_nothing() {
    check_texts(NO_REFUSAL, None);
}

#[test]
fn consent_is_success_beside_a_limit_or_a_refused_change() {
    check_texts(FIRM_CONSENT, Some(Success));
}

#[test]
fn conditions_complaints_and_answers_to_anything_tell_nothing() {
    check_texts(NO_CONSENT, None);
}

#[test]
fn a_person_who_speaks_of_lines_and_messages_is_no_machine() {
    check_texts(PERSONS, None);
}
