"""Cases of phone numbers with what Google's libphonenumber (PyPI phonenumbers) makes of them.

    cases.py                            prints kind, region, text and expected answer, tab-separated, one case per line
    cases.py --compare ANSWERS          compares the answers of read_phone_numbers, one line per case
    cases.py --sample ANSWERS LINES     prints region, text and answer of some LINES cases: domain/testdata/phone_numbers.tsv

The expected answer is what libphonenumber reads in the PLAIN form of a number, so a pasted form has to give the number it was pasted from:
`+12025550100`, with `;ext=7` if it has an extension; with `?` in front if its range is not assigned but its length is possible; or `!`.
A decimal that no spreadsheet writes (behind a `+`, or with three zeros) is `!`: libphonenumber reads the zeros as digits, people may not mean it.
"""

import collections
import random
import sys

import phonenumbers
from phonenumbers import PhoneNumberFormat as Format

DEFAULT_REGIONS = "US GB DE FR IT ES CZ AT IN JP CN BR MX RU AU NL SE PL ZA KR".split()
RANDOM_NUMBERS = 3  # of each type of each region
EXAMPLE_TYPES = range(11)
ARABIC, PERSIAN, FULL_WIDTH = (str.maketrans("0123456789", digits) for digits in ("٠١٢٣٤٥٦٧٨٩", "۰۱۲۳۴۵۶۷۸۹", "０１２３４５６７８９"))

AMBIGUOUS = "!the digits can be read as more than one phone number: write it with + and the country code"
UNPARSABLE = "!not a phone number"

# Disagreements that were looked at, and the most there may be of each. None is of a valid number in international form but those that say so.
EXPLAINED = {
    # Digits without + or 0 in front that are a valid number of another country, too, and no mobile number here. German, Austrian and Indonesian
    # plans take nearly all digits for a landline; 33101234501 is a voicemail in Italy and a telephone in Paris.
    ("foreign", "valid, refused: " + AMBIGUOUS): 281,
    ("no-plus", "valid, refused: " + AMBIGUOUS): 38,
    ("significant", "valid, refused: " + AMBIGUOUS): 11,
    ("decimal", "valid, refused: " + AMBIGUOUS): 11,
    ("national", "valid, refused: " + AMBIGUOUS): 7,
    ("pasted national", "valid, refused: " + AMBIGUOUS): 49,
    ("punctuated national", "valid, refused: " + AMBIGUOUS): 7,
    ("extension", "valid, refused: " + AMBIGUOUS): 7,
    # The same, while nothing here has the number.
    ("foreign", "possible, refused: " + AMBIGUOUS): 2239,
    ("no-plus", "possible, refused: " + AMBIGUOUS): 4,
    # 00 is the beginning of free numbers in Japan, and of 0015, 005 and other prefixes with a carrier's digits in Brazil and elsewhere.
    ("double-zero", "valid, refused: " + AMBIGUOUS): 37,
    # A separator right after +8: no country code is 8, and Russians write it for +7.
    ("punctuated international", "valid, refused: " + AMBIGUOUS): 79,
    # Of a possible length, but not valid: without the country code only North American numbers are read so.
    ("foreign", "possible, refused: " + UNPARSABLE): 2623,
}


def numbers(chance):
    """Example numbers of every type of every region, and valid ones with other last digits."""
    found = {}
    for region in sorted(phonenumbers.SUPPORTED_REGIONS):
        for number_type in EXAMPLE_TYPES:
            example = phonenumbers.example_number_for_type(region, number_type)
            if example is None:
                continue
            found[phonenumbers.format_number(example, Format.E164)] = (region, example)
            digits = phonenumbers.national_significant_number(example)
            for _ in range(RANDOM_NUMBERS):
                kept = digits[: -chance.randint(2, 5)]
                other = kept + "".join(chance.choice("0123456789") for _ in range(len(digits) - len(kept)))
                number = parse(f"+{example.country_code}{other}", None)
                if number:
                    found[phonenumbers.format_number(number, Format.E164)] = (region, number)
    return list(found.values())


def parse(text, region):
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return None
    return number if phonenumbers.is_valid_number(number) else None


def expected(plain, region, extension=None):
    try:
        number = phonenumbers.parse(plain, region)
    except phonenumbers.NumberParseException:
        return "!"
    answer = phonenumbers.format_number(number, Format.E164) + (f";ext={extension}" if extension else "")
    if phonenumbers.is_valid_number(number):
        return answer
    is_possible = phonenumbers.is_possible_number_with_reason(number) == phonenumbers.ValidationResult.IS_POSSIBLE
    return "?" + answer if is_possible else "!"


def punctuated(chance, text):
    """Hyphens, dots and blanks between any digits, never two together."""
    out = text[0]
    for before, digit in zip(text, text[1:]):
        if before.isdigit() and digit.isdigit() and chance.random() < 0.3:
            out += chance.choice("-. ")
        out += digit
    # A dot before zeros at the end is a spreadsheet's decimal.
    whole, dot, zeros = out.rpartition(".")
    return whole + "-" + zeros if dot and not zeros.strip("0") else out


def pasted(chance, text):
    """Forms in which programs hand over a text that looks like this one on the screen."""
    spaced = text.replace("-", " ")
    yield spaced.replace(" ", chance.choice("\u00a0\u2007\u2009\u202f\u3000"))
    yield chance.choice("\u200b\u200c\u2060\ufeff").join(text)
    yield chance.choice("\u202a\u200e\u2066") + text + chance.choice("\u202c\u200f\u2069")
    yield spaced.replace(" ", chance.choice("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\uff0d"))
    yield text.replace("+", "＋").replace("(", "（").replace(")", "）").translate(FULL_WIDTH)
    yield text.translate(chance.choice([ARABIC, PERSIAN]))
    yield chance.choice(["'{}", "‘{}", "’{}", '"{}"', "“{}”", ' {} ', '="{}"']).format(text)


def extended(chance, text):
    extension = str(chance.randint(1, 99999))
    for form in (" x{}", "x{}", ";ext={}", ",,{}", " #{}", " ext. {}", " extension {}", ", ext {}"):
        yield extension, text + form.format(extension)


def cases():
    chance = random.Random(20260101)
    for region, number in numbers(chance):
        e164, international, national, uri = (
            phonenumbers.format_number(number, form) for form in (Format.E164, Format.INTERNATIONAL, Format.NATIONAL, Format.RFC3966)
        )
        significant = phonenumbers.national_significant_number(number)
        for default in ("", region, *DEFAULT_REGIONS):
            yield "international", default, e164, expected(e164, default or None)
        for form in (international, uri):
            for default in ("", chance.choice(DEFAULT_REGIONS), region):
                yield "international", default, form, expected(e164, default or None)
        yield "double-zero", "", "00" + e164[1:], expected(e164, None)
        foreign = chance.choice(DEFAULT_REGIONS)
        yield "double-zero", foreign, "00" + e164[1:], expected(e164, None)
        yield "national", region, national, expected(national, region)
        yield "significant", region, significant, expected(significant, region)
        yield "no-plus", region, e164[1:], expected(e164[1:], region)
        yield "foreign", foreign, national, expected(national, foreign)
        yield "foreign", foreign, e164[1:], expected(e164[1:], foreign)
        yield "decimal international", foreign, e164 + ".0", "!"
        if not significant.startswith("0") and len(significant) >= 7:
            yield "decimal", region, significant + ".0", expected(significant, region)
            yield "decimal zeros", region, significant + ".000", "!"
        for text in pasted(chance, international):
            default = chance.choice(["", region, *DEFAULT_REGIONS])
            yield "pasted international", default, text, expected(e164, default or None)
        for text in pasted(chance, national):
            yield "pasted national", region, text, expected(national, region)
        yield "punctuated international", foreign, punctuated(chance, e164), expected(e164, foreign)
        digits = "".join(c for c in national if c.isdigit())
        yield "punctuated national", region, punctuated(chance, digits), expected(digits, region)
        extension, text = chance.choice(list(extended(chance, international)))
        yield "extension international", foreign, text, expected(e164, foreign, extension)
        extension, text = chance.choice(list(extended(chance, national)))
        yield "extension", region, text, expected(national, region, extension)


def agrees(wanted, answer):
    return answer == wanted.removeprefix("?") or (wanted == "!" and answer.startswith("!"))


def sample(answers, lines):
    """Cases on whose answers both agree, evenly from all of them."""
    agreed = {case[1:3]: answer for case, answer in zip(cases(), answers, strict=True) if agrees(case[3], answer)}
    every = len(agreed) / lines
    agreed = list(agreed.items())
    return [agreed[int(i * every)] for i in range(lines)]


def compare(answers):
    altered, disagreements, examples, count_all = [], collections.Counter(), {}, 0
    for (kind, region, text, wanted), answer in zip(cases(), answers, strict=True):
        count_all += 1
        if agrees(wanted, answer):
            continue
        if wanted == "!":
            what = "read, but not possible"
        elif answer.startswith("!"):
            what = ("possible, refused: " if wanted.startswith("?") else "valid, refused: ") + answer
        else:
            altered.append((kind, region, text, wanted, answer))
            continue
        disagreements[kind, what] += 1
        examples.setdefault((kind, what), []).append(f"{region or '--'} {text!r} wanted {wanted} answered {answer}")
    failed = bool(altered)
    for (kind, what), count in sorted(disagreements.items()):
        allowed = EXPLAINED.get((kind, what), 0)
        failed |= count > allowed
        print(f"{count:6} of at most {allowed:6}  {kind}: {what}")
        for example in examples[kind, what] if count > allowed else examples[kind, what][:1]:
            print("        ", example)
    for case in altered:
        print("ALTERED", *case)
    print(f"{count_all} cases, {sum(disagreements.values())} disagreements, {len(altered)} altered")
    sys.exit(failed)


def read_lines(path):
    with open(path, encoding="utf-8") as file:
        return file.read().splitlines()


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            for case in cases():
                print(*case, sep="\t")
        case ["--compare", answers]:
            compare(read_lines(answers))
        case ["--sample", answers, lines]:
            print(f"# region, text, answer; agreed with phonenumbers {phonenumbers.__version__}. Written by tests/phone_numbers/run --write")
            for (region, text), answer in sample(read_lines(answers), int(lines)):
                print(region, text, "!" if answer.startswith("!") else answer, sep="\t")
        case _:
            sys.exit(__doc__)
