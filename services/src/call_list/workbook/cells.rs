//! Cells of workbooks as text: numbers, dates and times in a readable form.

use std::borrow::Cow;

use calamine::{DataType, ExcelDateTime};
use chrono::{NaiveDate, NaiveDateTime, NaiveTime};

const DAY_SEC: f64 = 86_400.0;
/// Maximum duration that is written in hours, in days: Excel's last date.
const DURATION_MAX_DAYS: f64 = 2_958_466.0;

/// The text of a cell; a text cell is not copied.
pub(super) fn text_of(value: &impl DataType) -> Cow<'_, str> {
    if let Some(text) = value.get_string().or_else(|| value.get_duration_iso()) {
        return Cow::Borrowed(text);
    }
    let number = value.get_float().map(number_text).or_else(|| value.get_int().map(|number| number.to_string()));
    let date = || value.get_datetime().map(|at| date_text(&at)).or_else(|| value.get_datetime_iso().map(iso_text));
    let other = || value.get_bool().map(|value| value.to_string()).or_else(|| value.get_error().map(ToString::to_string));
    Cow::Owned(number.or_else(date).or_else(other).unwrap_or_default())
}

/// A number in digits: 41, not 41.0. Spreadsheets keep 15 significant digits.
#[expect(clippy::cast_possible_truncation, reason = "checked to be whole and small")]
fn number_text(number: f64) -> String {
    if !number.is_finite() {
        String::new()
    } else if number.fract() == 0.0 && number.abs() < 1e15 {
        (number as i64).to_string()
    } else {
        format!("{number:.14e}").parse::<f64>().unwrap_or(number).to_string()
    }
}

/// Formats a serial number of days: `26:15` is a duration, `09:30` a time of day, `2026-11-20` a date, `2026-11-20 09:30` a date and time;
/// seconds are written only if they are not zero. A value below one day is a time of day: Excel's calendars begin with day 1 (the calendar
/// of 1904 has a day 0, but no list of people to call needs it).
fn date_text(at: &ExcelDateTime) -> String {
    let days = at.as_f64();
    if at.is_duration() && days.abs() < DURATION_MAX_DAYS {
        return duration_text(days);
    }
    if (0.0..1.0).contains(&days) {
        let seconds = whole_seconds(days) % 86_400;
        return clock_text(seconds / 3_600, seconds / 60 % 60, seconds % 60);
    }
    if !(1.0..DURATION_MAX_DAYS).contains(&days) {
        return number_text(days);
    }
    let (year, month, day, hour, minute, second, _) = at.to_ymd_hms_milli();
    let date = format!("{year:04}-{month:02}-{day:02}");
    if (hour, minute, second) == (0, 0, 0) { date } else { format!("{date} {}", clock_text(hour.into(), minute.into(), second.into())) }
}

fn duration_text(days: f64) -> String {
    let seconds = whole_seconds(days.abs());
    let sign = if days < 0.0 && seconds > 0 { "-" } else { "" };
    format!("{sign}{}", clock_text(seconds / 3_600, seconds / 60 % 60, seconds % 60))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the callers give positive numbers within DURATION_MAX_DAYS")]
fn whole_seconds(days: f64) -> u64 {
    (days * DAY_SEC).round() as u64
}

fn clock_text(hour: u64, minute: u64, second: u64) -> String {
    if second == 0 { format!("{hour:02}:{minute:02}") } else { format!("{hour:02}:{minute:02}:{second:02}") }
}

/// A date or time that is stored as ISO 8601 text (cells of type `d`), in the same format as the others.
fn iso_text(text: &str) -> String {
    use chrono::Timelike as _;
    let clock = |time: NaiveTime| clock_text(time.hour().into(), time.minute().into(), time.second().into());
    let plain = text.trim().trim_end_matches('Z');
    if let Ok(at) = plain.parse::<NaiveDateTime>() {
        let date = at.format("%Y-%m-%d");
        return if at.time() == NaiveTime::MIN { date.to_string() } else { format!("{date} {}", clock(at.time())) };
    }
    match (plain.parse::<NaiveDate>(), plain.trim_start_matches('T').parse::<NaiveTime>()) {
        (Ok(date), _) => date.format("%Y-%m-%d").to_string(),
        (_, Ok(time)) => clock(time),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use calamine::ExcelDateTimeType;

    use super::*;

    fn date(days: f64) -> String {
        date_text(&ExcelDateTime::new(days, ExcelDateTimeType::DateTime, false))
    }

    fn duration(days: f64) -> String {
        date_text(&ExcelDateTime::new(days, ExcelDateTimeType::TimeDelta, false))
    }

    #[test]
    fn a_time_of_day_has_no_date_and_a_date_no_time() {
        assert_eq!(date(9.5 / 24.0), "09:30");
        assert_eq!(date(34_215.0 / 86_400.0), "09:30:15");
        assert_eq!(date(0.395_833_333), "09:30", "as programs round it");
        assert_eq!(date(0.0), "00:00");
        assert_eq!(date(0.999_999_99), "00:00", "a fraction of a second before midnight");
        assert_eq!(date(46_346.0), "2026-11-20");
        assert_eq!(date(46_346.0 + 9.5 / 24.0), "2026-11-20 09:30");
        assert_eq!(date(46_346.0 + 34_215.0 / 86_400.0), "2026-11-20 09:30:15");
    }

    #[test]
    fn a_duration_is_written_in_hours() {
        assert_eq!(duration(26.25 / 24.0), "26:15");
        assert_eq!(duration(94_530.0 / 86_400.0), "26:15:30");
        assert_eq!(duration(1.5 / 24.0), "01:30");
        assert_eq!(duration(0.0), "00:00");
        assert_eq!(duration(-0.25), "-06:00");
    }

    #[test]
    fn dates_go_by_the_calendar_of_the_workbook() {
        let at = ExcelDateTime::new(44_884.0 + 9.5 / 24.0, ExcelDateTimeType::DateTime, true);
        assert_eq!(date_text(&at), "2026-11-20 09:30");
    }

    #[test]
    fn serials_beyond_the_calendar_stay_numbers() {
        assert_eq!(date(-3.0), "-3");
        assert_eq!(date(1e12), "1000000000000");
        assert_eq!(duration(f64::NAN), "");
        assert_eq!(duration(1e300), number_text(1e300));
    }

    #[test]
    fn dates_that_are_stored_as_text_are_written_alike() {
        assert_eq!(iso_text("2026-11-20T09:30:00"), "2026-11-20 09:30");
        assert_eq!(iso_text("2026-11-20T00:00:00.000Z"), "2026-11-20");
        assert_eq!(iso_text("2026-11-20"), "2026-11-20");
        assert_eq!(iso_text("09:30:15"), "09:30:15");
        assert_eq!(iso_text("next week"), "next week");
    }
}
