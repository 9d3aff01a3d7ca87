-- Chat completions for wrk. Arguments: the key, and one of plain, fresh, burst, paced (see mock_upstream.c).
-- fresh is plain with a header that no other request has, as tracing adds one: nothing of a head can be remembered.
local count = 0

function init(arguments)
  local kind = arguments[2]
  local pace = kind == "paced" and "pace10 " or ""
  local stream = (kind == "plain" or kind == "fresh") and "" or ',"stream":true'
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  wrk.headers["Authorization"] = "Bearer " .. arguments[1]
  wrk.body = '{"model":"glm-4","messages":[{"role":"system","content":"You are a helpful assistant."},'
    .. '{"role":"user","content":"' .. pace
    .. 'Say something about the quick brown fox, in one short paragraph, please."}],'
    .. '"temperature":0.7,"max_tokens":128' .. stream .. "}"
  if kind == "fresh" then
    request = function()
      count = count + 1
      wrk.headers["traceparent"] = string.format("00-%032x-%016x-01", count, count)
      return wrk.format()
    end
  end
end
