"""Who may call which endpoint: one rule for each, and a test that calls each as everybody.

A rule is a scope, without the resource where that is the request's own (`send:message` as the sender that it names).
"""

from autoglm.gateway.operations.operation import Operation

OPEN = "open"
"""Anybody, without a key."""
PROOF = "proof"
"""Whoever proves that he holds the key that the request is about."""
KNOWN = "known"
"""Whoever is known; what is shown or changed is the caller's own."""

RULES: dict[str, str] = {
    "createChatCompletion": "model:use",
    "createCompletion": "model:use",
    "createEmbedding": "model:use",
    "createResponse": "model:use",
    "listModels": KNOWN,
    "getModel": KNOWN,
    "sendMessage": "send:message",
    "readMessages": "read:message",
    "streamMessages": "read:message",
    "getMessage": KNOWN,
    "getReceipts": KNOWN,
    "acknowledgeMessage": KNOWN,
    "listGroups": KNOWN,
    "getGroup": "read:message",
    "putGroup": "admin:groups",
    "deleteGroup": "admin:groups",
    "sendEvent": "send:message",
    "listEvents": "admin:alarms",
    "getEvent": KNOWN,
    "acknowledgeEvent": KNOWN,
    "testRoutes": "admin:alarms",
    "listSilences": "admin:alarms",
    "addSilence": "admin:alarms",
    "endSilence": "admin:alarms",
    "askPerson": "send:message",
    "getQuestion": KNOWN,
    "notify": "send:message",
    "notifyByKey": "send:message",
    "notifyAtRoot": "send:message",
    "notifyAtRootByKey": "send:message",
    "publishJson": "send:message",
    "publishJsonByPut": "send:message",
    "publishByPut": "send:message",
    "publish": "send:message",
    "publishByGet": "send:message",
    "sendByGet": "send:message",
    "triggerByGet": "send:message",
    "channels": "admin:channels",
    "retryChannel": "admin:channels",
    "outbox": "admin:channels",
    "deadLetters": "admin:channels",
    "resendDeadLetter": "admin:channels",
    "dropDeadLetter": "admin:channels",
    "checkHook": OPEN,  # the vendor's signature is the key
    "callHook": OPEN,
    "pushKey": KNOWN,
    "listPushSubscriptions": KNOWN,
    "subscribeToPush": "read:message",
    "unsubscribeFromPush": KNOWN,
    "submitTask": "model:use",
    "listTasks": KNOWN,
    "getTask": KNOWN,
    "cancelTask": KNOWN,
    "listDecisions": KNOWN,
    "getDecision": KNOWN,
    "replayDecisions": "admin:engine",
    "giveFeedback": KNOWN,
    "listIntents": KNOWN,
    "teachIntent": "admin:intents",
    "tryIntent": KNOWN,
    "forgetIntent": "admin:intents",
    "health": OPEN,
    "readiness": OPEN,
    "metrics": "read:metrics",
    "description": OPEN,
    "envelopeSchema": OPEN,
    "me": KNOWN,
    "pool": KNOWN,
    "resumeInstance": "admin:pool",
    "drainInstance": "admin:pool",
    "startInstance": "admin:pool",
    "stopInstance": "admin:pool",
    "budgets": KNOWN,
    "resetBudget": "admin:budgets",
    "capabilities": KNOWN,
    "listKeys": "admin:keys",
    "issueKey": "admin:keys",
    "revokeKey": "admin:keys",
    "listDevices": "admin:devices",
    "inviteDevice": "admin:devices",
    "enrolDevice": PROOF,
    "removeDevice": "admin:devices",
    "issueToken": "admin:devices",
    "renewToken": PROOF,
    "verifyToken": "admin:devices",
    "rotateSiteKey": "admin:devices",
    "listRevocations": "admin:devices",
    "revoke": "admin:devices",
    "takeBackRevocation": "admin:devices",
}


def rule_of(operation: Operation) -> str:
    """Raises KeyError for an endpoint without one: the description cannot be made, and no test passes."""
    return RULES[operation.name]
