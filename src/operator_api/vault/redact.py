"""Redaction: what may be kept of a request, an answer or a message that went wrong.

What is stored must help to find a mistake, and give nothing away: names and shapes stay, values
become their kind and length, such as ``<email 17>``. A value stays only where its name is on a list
that the caller gives, and then only if nothing in it looks like a secret. Free text has no names,
so there it is the other way round: what looks like a secret goes, in whatever it is encoded.

Everything here is total (it never raises), idempotent, and takes time linear in its bounded input.
"""

import binascii
import html
import re
import unicodedata
from collections.abc import Iterator
from urllib.parse import unquote

MAX_TEXT = 4096
MAX_IDENTIFIER = 512
MAX_SHORT = 200
_MAX_ROUNDS = 4

MASK = re.compile(
    r"<(?:string|text|secret|token|jwt|email|phone|card|url|id|time|digits|key|userinfo|encoded)"
    r" [0-9]{1,7}(?: #[0-9]{1,4})?>|<(?:number|object|nested)(?: #[0-9]{1,4})?>|<[0-9]{1,7} more>"
)

_ID = r"(?<![0-9A-Za-z])[a-z]{2,6}_[0-9a-f]{32}(?![0-9A-Za-z])"
_UUID = r"(?<![0-9A-Za-z])[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}(?![0-9A-Za-z])"
# Without a prefix it must not be text in hexadecimal: a byte of it is beyond ASCII.
_HEX_ID = r"(?<![0-9A-Za-z])(?=\d*[a-f])(?=(?:..){0,15}[89a-f])[0-9a-f]{32}(?![0-9A-Za-z])"
_TIME = (
    r"(?<![0-9])(?:19|20)[0-9]{2}-[0-9]{2}-[0-9]{2}(?:[Tt ][0-9]{2}:[0-9]{2}(?::[0-9]{2}"
    r"(?:\.[0-9]{1,9})?)?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})?)?(?![0-9])"
)
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])"
_ADDRESS = rf"(?<![0-9.]){_OCTET}(?:\.{_OCTET}){{3}}(?![0-9.])"
_harmless = re.compile(rf"{MASK.pattern}|{_ID}|{_UUID}|{_HEX_ID}|{_TIME}|{_ADDRESS}")
is_id = re.compile(rf"{_ID}|{_UUID}|{_HEX_ID}").fullmatch
is_time = re.compile(_TIME).fullmatch

# What is after a token's prefix may be cut off, or left out in the middle.
_GAP = r"(?:…|\.{2,3}|\*+)"
_TOKEN = rf"op_(?:live|test)_(?:[0-9a-z]+(?:{_GAP}[0-9a-z]*)?|{_GAP}[0-9a-z]+)"
_JWT = r"eyj[0-9a-z_-]{8,}(?:\.[0-9a-z_-]*){0,4}"
# What others' tokens begin with, and private keys.
_FOREIGN = (
    r"(?:sk|pk|rk)[_-](?:live|test|proj|ant)[_-][\w-]{6,}|whsec_[\w+/=-]{8,}|gh[opsur]_[0-9a-z]{16,}"
    r"|github_pat_\w{16,}|xox[abeoprs]-[\w-]{8,}|akia[0-9a-z]{12,}"
    r"|-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[^-]*(?:-----END [A-Z ]{0,40}-----)?"
)
_USERINFO = (
    r"(?<=://)(?:[^\s/?#@]{1,256}@)*[^\s/?#@]{1,256}(?=@)"
    r"|(?<=://)[^\s/?#@:]{0,256}:(?![0-9]{1,5}(?:[/?#\s\"']|$))[^\s@]{1,256}(?=@)"
)
_EMAIL = r"[\w.!#$%*+^~'-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){0,10}"
_secret = re.compile(
    rf"(?P<token>{_TOKEN})|(?P<jwt>{_JWT})|(?P<secret>{_FOREIGN})"
    rf"|(?P<userinfo>{_USERINFO})|(?P<email>{_EMAIL})",
    re.IGNORECASE,
)
_digits = re.compile(
    rf"(?P<harmless>{_harmless.pattern})"
    r"|\+[0-9](?:[ .()-]{0,2}[0-9]){6,}|(?<![0-9])[0-9](?:\)?[ .-]?[0-9]){6,}"
)
_LEAST_DIGITS = 9
_CARD_DIGITS = range(13, 20)

# Names of secrets, written without what separates words. Those of the first group are secret
# in any longer name as well.
_SECRET_PARTS = re.compile(
    r"password|passwd|passphrase|passcode|pwd|secret|token|apikey|accesskey|privatekey|signingkey"
    r"|authorization|cookie|credential|bearer|sessionid|signature|cardnumber|creditcard|cardno|cvv"
    r"|cvc|iban|jwt|csrf|xsrf"
)
_SECRET_NAMES = frozenset({"auth", "pan", "pin", "otp", "ssn", "session", "sid", "card"})

_pair = re.compile(
    r"(?<![\w.%-])[\w.%-]++[\\\"'\]]{0,4}[ \t]{0,3}[=:]>?[ \t]{0,3}(?P<quote>[\\\"']{0,4})"
)
_name = re.compile(r"[\w.%-]+")
_quoted = {'"': re.compile(r'[^"\r\n]+'), "'": re.compile(r"[^'\r\n]+")}
_unquoted = re.compile(r"[^\s\"'&]+")
_rest_of_line = re.compile(r"[^\r\n]+")
# "401 invalid_token: The token …" is a reason and a sentence, not a name and its value.
_sentence = re.compile(r"(?!(?:Bearer|Basic|Digest) )[A-Z][a-z]{0,12} [A-Za-z]")
# Nor are `Bearer <token>` and `tokens:read` secrets.
_placeholder = re.compile(r"(?:[A-Za-z]{1,12} )?<[a-z_ ]{1,30}>|…|(?:read|write|admin)(?![\w-])")
_scheme = re.compile(
    r"(?i:\b(?:bearer|basic|digest|apikey)[ \t]{1,8})(?![\w-]{1,20}=[\"'])"
    r"(?![a-z]{1,16}(?:[\s,;:)]|\.?$))"
    r"(?P<value>[^\s<>\"'`,;]+)"
)

_escaped = re.compile(r"%[0-9A-Fa-f]{2}|\\+[uxUX]|[^\x00-\x7f]")
_entity = re.compile(r"&#?\w{1,8};")
_escape = re.compile(r"\\+(?:u([0-9A-Fa-f]{4})|u\{([0-9A-Fa-f]{1,6})\}|x([0-9A-Fa-f]{2}))")
_piece = re.compile(r"[^\s/?&=#\"'<>(),;]+")
_word = re.compile(r"[^\s<>]+")
_base64_run = re.compile(r"[A-Za-z0-9+/_-]{12,}={0,2}")
_hex_run = re.compile(r"(?:[0-9A-Fa-f]{2}){8,}")
_printable = re.compile(rb"[\x20-\x7e]{6,}")
_dense_run = re.compile(r"[A-Za-z0-9+_-]{20,}={0,2}")
_word_part = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_url = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{1,20}://\S+")
_invisible = re.compile(r"[\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


# --- names and kinds ------------------------------------------------------------------------------


def mask(kind: str, text: str) -> str:
    """Return what stands for a text: its kind and its length."""
    return f"<{kind} {min(len(text), 9_999_999)}>"


def is_secret_name(name: str) -> bool:
    """Say whether a field, parameter or header of this name holds a secret."""
    plain = unicodedata.normalize("NFKC", unquote(name[:MAX_SHORT])).lower()
    plain = re.sub(r"[^a-z0-9]", "", plain)
    return plain in _SECRET_NAMES or _SECRET_PARTS.search(plain) is not None


def kind_of(text: str) -> str:
    """Name what a text is: ``email``, ``phone``, ``token`` …, else ``string``."""
    if len(text) > MAX_SHORT:
        return "string"
    if is_id(text):
        return "id"
    if is_time(text):
        return "time"
    if _url.fullmatch(text):
        return "url"
    if re.fullmatch(r"[0-9]{1,8}", text):
        return "digits"
    if match := _secret.fullmatch(text):
        return "string" if match.lastgroup == "userinfo" else str(match.lastgroup)
    match = _digits.fullmatch(text)
    return "string" if match is None or match["harmless"] else _kind_of_digits(text)


def _kind_of_digits(text: str) -> str:
    digits = re.sub(r"[^0-9]", "", text)
    if len(digits) in _CARD_DIGITS and _passes_luhn(digits):
        return "card"
    return "phone" if not text.isdigit() and len(digits) <= 15 else "digits"


def _passes_luhn(digits: str) -> bool:
    total = 0
    for position, digit in enumerate(reversed(digits)):
        number = int(digit) * (1 + position % 2)
        total += number - 9 if number > 9 else number
    return total % 10 == 0


def made_of_words(text: str) -> bool:
    """Tell an identifier, such as ``line2`` or ``APIStatusError``, from what chance has made."""
    digits = sum(character.isdigit() for character in text)
    if len(text) <= 12:
        return digits <= 4
    parts = _word_part.findall(text)
    return digits <= 4 and len(parts) * 3 <= len(text)


# --- free text ------------------------------------------------------------------------------------


def redact_text(text: str) -> str:
    """Mask what looks like a secret or a person's data in free text, and cut it to MAX_TEXT.

    Masked are tokens (ours and well-known ones of others, also when they are cut off), JWTs,
    private keys, emails, phone and card numbers and other long digits, URL userinfo, what follows
    the name of a secret (``password=…``), and long strings made by chance; each of them in clear,
    percent-encoded, escaped, or in base64 or hexadecimal.
    """
    return _settle(text, MAX_TEXT, strict=True)


def redact_identifier(text: str) -> str:
    """Mask an identifier, such as an idempotency key, only if it holds a secret for certain.

    Unlike in free text, digits and chance are what identifiers are made of: they stay, unless they
    are a card number, or a phone number with its ``+``.
    """
    return text if is_id(text) else _settle(text, MAX_IDENTIFIER, strict=False)


def _settle(text: str, longest: int, *, strict: bool) -> str:
    """Redact until nothing changes; what does not settle is masked as a whole."""
    for _ in range(_MAX_ROUNDS):
        redacted = _redact(text[:longest], strict=strict)
        if redacted == text:
            return text
        text = redacted
    return mask("text", text)


def _redact(text: str, *, strict: bool) -> str:
    if not text.isascii():
        plain = _normal(text)
        if _redact_plain(plain, strict=strict) != plain:
            text = plain
    if _escaped.search(text):
        text = _piece.sub(lambda match: _redact_escaped(match[0], strict=strict), text)
    if _entity.search(text):
        text = _word.sub(lambda match: _redact_escaped(match[0], strict=strict), text)
    return _redact_plain(text, strict=strict)


def _redact_plain(text: str, *, strict: bool) -> str:
    text = _redact_named(text)
    text = _base64_run.sub(lambda match: _redact_encoded(match[0], strict=strict), text)
    text = _digits.sub(lambda match: _mask_digits(match, strict=strict), text)
    return _dense_run.sub(_mask_dense, text) if strict else text


def _redact_named(text: str) -> str:
    """Mask what a name, a scheme or a prefix tells to be a secret."""
    text = _scheme.sub(_mask_value, _redact_values(text))
    return _secret.sub(lambda match: mask(str(match.lastgroup), match[0]), text)


def _redact_values(text: str) -> str:
    """Mask what follows the name of a secret and ``=`` or ``:``."""
    done, position = [], 0
    for pair in _pair.finditer(text):
        start = pair.end()
        if start < position:
            continue
        named = _name.match(pair[0])
        assert named is not None
        name = named[0]
        if not is_secret_name(name) or _sentence.match(text, start):
            continue
        if MASK.match(text, start) or _placeholder.match(text, start):
            continue
        value = _value_after(name, pair["quote"]).match(text, start)
        if value is None or is_id(value[0]):
            continue
        done += [text[position:start], mask("secret", value[0])]
        position = value.end()
    return "".join([*done, text[position:]])


def _value_after(name: str, quote: str) -> re.Pattern[str]:
    if quote[-1:] in _quoted:
        return _quoted[quote[-1]]
    whole_line = name.lower().endswith(("authorization", "cookie"))
    return _rest_of_line if whole_line else _unquoted


def _mask_value(match: re.Match[str]) -> str:
    value = match["value"]
    return match[0][: -len(value)] + mask("secret", value)


def _mask_digits(match: re.Match[str], *, strict: bool) -> str:
    text = match[0]
    if match["harmless"]:
        return text
    kind = _kind_of_digits(text)
    certain = text[0] == "+" or (kind == "card" and text[0] in "23456")
    many = len(re.sub(r"[^0-9]", "", text)) >= _LEAST_DIGITS
    return mask(kind, text) if certain or (strict and many) else text


def _mask_dense(match: re.Match[str]) -> str:
    text = match[0]
    mixed = re.search("[a-z]", text) and re.search("[A-Z]", text)
    numbers = len(re.findall("[0-9]", text)) >= 2
    return mask("secret", text) if mixed and numbers and not made_of_words(text) else text


def _redact_escaped(text: str, *, strict: bool) -> str:
    """Mask a piece of text as a whole if a secret comes out when its escapes are undone."""
    if MASK.fullmatch(text):
        return text
    plain = text
    for _ in range(3):
        undone = _normal(_escape.sub(_character, html.unescape(unquote(plain))))
        if undone == plain:
            break
        plain = undone
    if plain == text or _redact_plain(plain, strict=strict) == plain:
        return text
    kind = kind_of(plain)
    return mask("encoded" if kind == "string" else kind, text)


def _normal(text: str) -> str:
    """Write what looks alike alike, and leave out what cannot be seen."""
    return _invisible.sub("", unicodedata.normalize("NFKC", text))


def _character(match: re.Match[str]) -> str:
    number = int(match[1] or match[2] or match[3], 16)
    return chr(number) if number <= 0x10FFFF else ""


def _redact_encoded(text: str, *, strict: bool) -> str:
    for decoded in _decodings(text):
        for run in _printable.findall(decoded):
            plain = run.decode("ascii")
            shown = _redact_named(plain)
            if _digits.sub(lambda match: _mask_digits(match, strict=strict), shown) != plain:
                return mask("encoded", text)
    return text


def _decodings(text: str) -> Iterator[bytes]:
    """Read as base64 from each of the places where its groups may begin, and as hexadecimal."""
    run = text.rstrip("=").replace("-", "+").replace("_", "/")
    for start in range(4):
        whole = run[start:]
        whole = whole[:-1] if len(whole) % 4 == 1 else whole
        yield binascii.a2b_base64(whole + "=" * (-len(whole) % 4))
    for match in _hex_run.finditer(text):
        yield bytes.fromhex(match[0])
