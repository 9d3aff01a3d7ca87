-- Messages for wrk, each with an id and a text of its own. Arguments: the key, a prefix for the ids that no other run
-- uses, and the number of bytes of the text.
local count = 0
local prefix, padding
local headers = { ["Content-Type"] = "application/json" }

function init(arguments)
  headers["Authorization"] = "Bearer " .. arguments[1]
  prefix = arguments[2]
  padding = string.rep("x", tonumber(arguments[3]) - 8)
end

function request()
  count = count + 1
  local body = string.format(
    '{"id":"%s-%d","from":"device:bench","to":"user:reader-%d","content":"%08d%s"}',
    prefix, count, count % 100, count, padding
  )
  return wrk.format("POST", nil, headers, body)
end
