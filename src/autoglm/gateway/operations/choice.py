"""How the hub chooses a model, and what it understands of a text."""

from autoglm.gateway.decisions import MAX_LIMIT as MAX_DECISIONS
from autoglm.gateway.decisions import DecisionAccount, DecisionList, NewFeedback, NewReplay, Noted
from autoglm.gateway.intents import IntentList, KnownIntent, NewExamples, TriedText
from autoglm.gateway.operations.operation import BODY, KEY, TENANT, WRITE, Answer, Operation, Parameter, ok
from autoglm.inference.engine.whatif import WhatIf
from autoglm.inference.features import Features

DECISIONS = (
    Operation(
        "GET", "/api/decisions", "listDecisions", "decisions", "The last choices for `auto`, the newest first",
        (ok("Those of the key's tenant, or of the one that is named; else all for an admin's key", DecisionList),),
        (*KEY, *WRITE, "invalid_field", "forbidden"),
        (
            TENANT,
            Parameter(
                "limit", "query", {"type": "integer", "minimum": 1, "maximum": MAX_DECISIONS, "default": 20},
                "At most so many",
            ),
        ),
    ),
    Operation(
        "GET", "/api/decisions/{id}", "getDecision", "decisions", "Why a request went where it went",
        (ok("Candidates, predictions, propensities, the choice, the outcome, judgements", DecisionAccount),),
        (*KEY, *WRITE, "invalid_field", "not_found", "forbidden"),
        (
            TENANT,
            Parameter(
                "id", "path", {"type": "string", "minLength": 1, "maxLength": 64},
                "From the answer's header `x-autoglm-decision`", example="019a0000-0000-7000-8000-000000000000",
            ),
        ),
    ),
    Operation(
        "POST", "/api/decisions/replay", "replayDecisions", "decisions", "What another policy would have brought",
        (ok("For each measure what came out, and the doubly robust estimate with its 95% interval", WhatIf),),
        (*KEY, *BODY, *WRITE, "forbidden"), request=NewReplay,
    ),
    Operation(
        "POST", "/api/feedback", "giveFeedback", "decisions", "Say how good an answer was",
        (ok("It is on disk, and learned", Noted),), (*KEY, *BODY, *WRITE, "not_found", "forbidden"), (TENANT,),
        request=NewFeedback,
    ),
)  # fmt: skip

INTENTS = (
    Operation(
        "GET", "/api/intents", "listIntents", "intents", "The intents that the hub knows",
        (ok("By name", IntentList),), KEY,
    ),
    Operation(
        "POST", "/api/intents", "teachIntent", "intents", "Teach an intent by examples",
        (ok("The examples are on disk, and learned", KnownIntent),), (*KEY, *BODY, *WRITE, "forbidden"),
        request=NewExamples,
    ),
    Operation(
        "POST", "/api/intents/try", "tryIntent", "intents", "What would be understood of a text?",
        (ok("Its features", Features),), (*KEY, *BODY), request=TriedText,
    ),
    Operation(
        "DELETE", "/api/intents/{name}", "forgetIntent", "intents", "Take back what was taught of an intent",
        (Answer(204, "What the hub or the settings know of it stays", {}),),
        (*KEY, *WRITE, "invalid_field", "forbidden", "not_found"),
        (
            Parameter(
                "name", "path", {"type": "string", "minLength": 1, "maxLength": 64}, "An intent",
                example="shift_handover",
            ),
        ),
    ),
)  # fmt: skip
