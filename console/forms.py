"""Forms of the console. The form of every action has a reason."""

import re
from datetime import timedelta
from typing import Any

from django import forms

from connections.policy.states import ActorKind
from console.reports.users import Sort, Status

MAX_BULK = 100  # users in one bulk recovery; as many as one person can still look over
MAX_LIMIT = 100_000  # far above any real use, and within the column's range

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def parse_duration(text: str) -> timedelta:
    """Parse `90s`, `15m`, `2h` or `7d`. Raises ValueError."""
    match = re.fullmatch(r"(\d{1,6})\s*([smhd])", text.strip().lower())
    if match is None or int(match[1]) == 0:
        raise ValueError("Write it as 90s, 15m, 2h or 7d.")
    length = timedelta(**{_UNITS[match[2]]: int(match[1])})
    if length > timedelta(days=3660):
        raise ValueError("At most ten years.")
    return length


class ReasonForm(forms.Form):
    reason = forms.CharField(
        max_length=500,
        error_messages={"required": "Say why: the reason goes into the audit trail."},
        widget=forms.TextInput(attrs={"autocomplete": "off", "list": "reasons"}),
    )

    kind = "form"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # A page has several forms, so field ids begin with the form's kind.
        kwargs.setdefault("auto_id", f"{self.kind}-%s")
        super().__init__(*args, **kwargs)


class RecoverForm(ReasonForm):
    kind = "recover"
    dry_run = forms.BooleanField(required=False, widget=forms.HiddenInput)
    # The dry run that staff looked at: the button says how many managers it would free.
    preview = forms.UUIDField(required=False, widget=forms.HiddenInput)


class CheckForm(ReasonForm):
    """The reason is optional: a roll call closes nothing, and everyone who may view may ask for one."""

    kind = "check"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["reason"].required = False

    def clean_reason(self) -> str:
        return str(self.cleaned_data["reason"]) or "Check from the console"


class ResetForm(ReasonForm):
    kind = "reset"
    confirm = forms.CharField(
        max_length=254, strip=False, required=False, widget=forms.TextInput(attrs={"autocomplete": "off"})
    )

    def __init__(self, *args: Any, username: str, **kwargs: Any) -> None:
        self.username = username
        super().__init__(*args, **kwargs)

    def clean_confirm(self) -> str:
        typed = str(self.cleaned_data["confirm"])
        if typed != self.username:
            raise forms.ValidationError(f"Type {self.username} to confirm.")
        return typed


class LimitForm(ReasonForm):
    kind = "limit"
    pool = forms.CharField(max_length=50, initial="chat")
    soft_limit = forms.IntegerField(
        min_value=1, max_value=MAX_LIMIT, required=False, widget=forms.NumberInput(attrs={"inputmode": "numeric"})
    )
    expires_in = forms.CharField(
        max_length=20,
        required=False,
        widget=forms.TextInput(attrs={"placeholder": "for ever", "autocomplete": "off"}),
    )
    clear = forms.BooleanField(required=False, widget=forms.HiddenInput)

    def clean_expires_in(self) -> timedelta | None:
        text = self.cleaned_data["expires_in"]
        if not text:
            return None
        try:
            return parse_duration(text)
        except ValueError as error:
            raise forms.ValidationError(str(error)) from error

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        data = self.cleaned_data
        if not data.get("clear") and data.get("soft_limit") is None and "soft_limit" not in self.errors:
            self.add_error("soft_limit", "Enter a limit of 1 or more, or choose Back to the default.")
        return cleaned


class CloseForm(ReasonForm):
    kind = "close"


class DrainForm(ReasonForm):
    kind = "drain"


class BulkRecoverForm(ReasonForm):
    """`user_ids` may be given several times; each has one key, or several separated by commas."""

    kind = "bulk"

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        given = self.data.getlist("user_ids") if hasattr(self.data, "getlist") else []
        ids = list(dict.fromkeys(key for text in given for key in re.split(r"[\s,]+", text) if key))
        if not ids:
            self.add_error(None, "Choose at least one user.")
        elif len(ids) > MAX_BULK:
            self.add_error(None, f"{len(ids)} users are too many. Choose at most {MAX_BULK} at a time.")
        self.cleaned_data["user_ids"] = ids
        return cleaned


class UserSearchForm(forms.Form):
    """Invalid values fall back to the default: the list never answers with an error."""

    q = forms.CharField(required=False, max_length=254)
    status = forms.ChoiceField(required=False, choices=[(each.value, each.value) for each in Status])
    sort = forms.ChoiceField(required=False, choices=[(each.value, each.value) for each in Sort])
    cursor = forms.CharField(required=False, max_length=1000)


class AuditFilterForm(forms.Form):
    q = forms.CharField(required=False, max_length=254)
    action = forms.CharField(required=False, max_length=40)
    actor_kind = forms.ChoiceField(
        required=False, choices=[("", "anyone"), *((each.value, each.value) for each in ActorKind)]
    )
    since = forms.DateField(required=False, widget=forms.DateInput(attrs={"type": "date"}))
    until = forms.DateField(required=False, widget=forms.DateInput(attrs={"type": "date"}))
    cursor = forms.CharField(required=False, max_length=1000)
