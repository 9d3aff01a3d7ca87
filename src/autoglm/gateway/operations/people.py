"""People: how they log in, what they see of their own logins, and who has an account."""

from autoglm.gateway.logins import (
    InvitationLogin,
    InvitationToken,
    LoginWays,
    PasskeyLogin,
    PasswordLogin,
    Person,
    SeenInvitation,
)
from autoglm.gateway.operations.operation import ANY, BODY, JSON, KEY, WRITE, Answer, Operation, Parameter, Schema, ok
from autoglm.gateway.own_account import NewPasskey, NewPassword, OwnPasskey, OwnPasskeys, OwnSessions
from autoglm.gateway.people import ChangedPerson, InvitationList, KnownPerson, MadeInvitation, NewInvitation, PeopleList

_NAME: Schema = {"type": "string", "minLength": 1, "maxLength": 64}
_HANDLE: Schema = {"type": "string", "pattern": "^[0-9a-f]{1,64}$"}
_OPTIONS: Schema = {"type": "object", "description": "See WebAuthn Level 3, section 5.1.8 and 5.1.9"}
_PAGE = (*ANY, "cross_origin")
_LOGIN = (*_PAGE, *BODY, *WRITE, "login_refused", "login_throttled")
_SESSION = (*KEY, "session_ended", "cross_origin")
_OWN = (*_SESSION, "login_wanted")
_FRESH = (*_OWN, "fresh_login_wanted")
_NAMED = Parameter("name", "path", _NAME, "A person", example="alice")
_BY_HANDLE = Parameter("handle", "path", _HANDLE, "As the list names it", example="9f86d081884c7d65")

PEOPLE = (
    Operation(
        "GET", "/api/login", "loginWays", "people", "How a person may log in here", (ok("The ways", LoginWays),), ANY,
    ),
    Operation(
        "POST", "/api/login/password", "loginByPassword", "people", "Log in by name and password",
        (ok("In; the session is in a cookie", Person),), _LOGIN, request=PasswordLogin,
    ),
    Operation(
        "POST", "/api/login/passkey/options", "passkeyLoginOptions", "people", "What a browser needs to use a passkey",
        (Answer(200, "For `navigator.credentials.get`", {JSON: _OPTIONS}),), (*_PAGE, "invalid_field"),
    ),
    Operation(
        "POST", "/api/login/passkey", "loginByPasskey", "people", "Log in by a passkey",
        (ok("In; the session is in a cookie", Person),), _LOGIN, request=PasskeyLogin,
    ),
    Operation(
        "GET", "/api/login/oidc", "loginAtProvider", "people", "Log in at the OpenID provider of the settings",
        (Answer(303, "To the provider", {}),),
        (*_PAGE, "invalid_field", "login_refused", "provider_unreachable"),
        (
            Parameter(
                "fresh", "query", {"type": "integer", "minimum": 0, "maximum": 1, "default": 0}, "Log in there anew"
            ),
        ),
    ),
    Operation(
        "GET", "/api/login/oidc/callback", "loginFromProvider", "people", "Where the provider sends the browser back",
        (Answer(303, "To the page, which says where it went wrong", {}),), ANY,
    ),
    Operation(
        "POST", "/api/login/invitation/look", "lookAtInvitation", "people", "What a link is good for",
        (ok("Whom it is for", SeenInvitation),), (*_PAGE, *BODY, "login_refused"), request=InvitationToken,
    ),
    Operation(
        "POST", "/api/login/invitation", "loginByInvitation", "people", "Choose a password by a link, and be in",
        (ok("In; the link is void", Person),), _LOGIN, request=InvitationLogin,
    ),
    Operation(
        "POST", "/api/logout", "logOut", "people", "End this session, if it has not ended",
        (Answer(204, "Out", {}),), (*_PAGE, *WRITE),
    ),
    Operation(
        "POST", "/api/me/password", "changePassword", "people", "Another password; all other sessions end",
        (ok("In anew", Person),), (*_OWN, *BODY, *WRITE, "login_refused", "login_throttled"), request=NewPassword,
    ),
    Operation(
        "GET", "/api/me/sessions", "listOwnSessions", "people", "Where I am logged in",
        (ok("The newest first", OwnSessions),), _OWN,
    ),
    Operation(
        "DELETE", "/api/me/sessions/{handle}", "endOwnSession", "people", "Log another browser of mine out",
        (Answer(204, "It is out", {}),), (*_FRESH, *WRITE, "invalid_field", "not_found"), (_BY_HANDLE,),
    ),
    Operation(
        "GET", "/api/me/passkeys", "listOwnPasskeys", "people", "My passkeys",
        (ok("The oldest first", OwnPasskeys),), _OWN,
    ),
    Operation(
        "POST", "/api/me/passkeys/options", "newPasskeyOptions", "people", "What a browser needs to make a passkey",
        (Answer(200, "For `navigator.credentials.create`", {JSON: _OPTIONS}),), (*_FRESH, "invalid_field"),
    ),
    Operation(
        "POST", "/api/me/passkeys", "addPasskey", "people", "Keep the passkey that the browser made",
        (ok("It may be used from now on", OwnPasskey, 201),), (*_FRESH, *BODY, *WRITE, "login_refused"),
        request=NewPasskey,
    ),
    Operation(
        "DELETE", "/api/me/passkeys/{handle}", "removePasskey", "people", "Remove a passkey of mine",
        (Answer(204, "It opens nothing more", {}),), (*_FRESH, *WRITE, "invalid_field", "not_found"), (_BY_HANDLE,),
    ),
    Operation(
        "GET", "/api/people", "listPeople", "people", "Who has an account",
        (ok("By name", PeopleList),), (*_SESSION, "forbidden"),
    ),
    Operation(
        "PATCH", "/api/people/{name}", "changePerson", "people", "Other roles, or no way in",
        (ok("As it is now", KnownPerson),),
        (*_SESSION, *BODY, *WRITE, "forbidden", "not_found", "revision_mismatch"), (_NAMED,), request=ChangedPerson,
    ),
    Operation(
        "DELETE", "/api/people/{name}", "removePerson", "people", "Remove an account with all that proves it",
        (Answer(204, "It is gone", {}),), (*_SESSION, *WRITE, "invalid_field", "forbidden", "not_found"), (_NAMED,),
    ),
    Operation(
        "DELETE", "/api/people/{name}/sessions", "endSessions", "people", "Log a person out everywhere",
        (Answer(204, "He is out, and may log in anew", {}),),
        (*_SESSION, *WRITE, "invalid_field", "forbidden", "not_found", "revision_mismatch"), (_NAMED,),
    ),
    Operation(
        "POST", "/api/people/{name}/reset", "resetPassword", "people", "A link by which a person gets a new password",
        (ok("The link's secret, this once", MadeInvitation, 201),),
        (*_SESSION, *WRITE, "invalid_field", "forbidden", "not_found"), (_NAMED,),
    ),
    Operation(
        "GET", "/api/invitations", "listInvitations", "people", "Links that are open",
        (ok("The newest last", InvitationList),), (*_SESSION, "forbidden"),
    ),
    Operation(
        "POST", "/api/invitations", "invitePerson", "people", "A link by which somebody new gets an account",
        (ok("The link's secret, this once", MadeInvitation, 201),), (*_SESSION, *BODY, *WRITE, "forbidden"),
        request=NewInvitation,
    ),
    Operation(
        "DELETE", "/api/invitations/{handle}", "withdrawInvitation", "people", "Make an open link void",
        (Answer(204, "It opens nothing", {}),), (*_SESSION, *WRITE, "invalid_field", "forbidden", "not_found"),
        (_BY_HANDLE,),
    ),
)  # fmt: skip
