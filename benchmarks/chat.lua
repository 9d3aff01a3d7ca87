-- Chat completions for wrk. Arguments: the key, and one of plain, burst, paced (see mock_upstream.c).
function init(arguments)
  local kind = arguments[2]
  local pace = kind == "paced" and "pace10 " or ""
  local stream = kind == "plain" and "" or ',"stream":true'
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  wrk.headers["Authorization"] = "Bearer " .. arguments[1]
  wrk.body = '{"model":"glm-4","messages":[{"role":"system","content":"You are a helpful assistant."},'
    .. '{"role":"user","content":"' .. pace
    .. 'Say something about the quick brown fox, in one short paragraph, please."}],'
    .. '"temperature":0.7,"max_tokens":128' .. stream .. "}"
end
