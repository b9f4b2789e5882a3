-- Stores results of attempts. ARGV: worker, then for each: tenant, id, attempt, result. Returns {1 or 0, ...}.
-- 0 is stale: another attempt owns the call, or it ended otherwise. Repeating a finish that was stored answers 1.

local worker = ARGV[1]
local reply = {}
for at = 2, #ARGV, 4 do
  local call = load_call(ARGV[at], ARGV[at + 1])
  local owned = call and call.owner == worker and call.attempt == tonumber(ARGV[at + 2])
  if owned and call.state == 'running' then
    conclude(call, ARGV[at + 3])
  end
  reply[#reply + 1] = owned and 1 or 0
end
flush()
return reply
