-- Tells what became of calls. ARGV: tenant, channel or '', ids. Returns {state or false, result or false, ...}.

local tenant, channel = ARGV[1], ARGV[2]
local reply = {}
for at = 3, #ARGV do
  local call = load_call(tenant, ARGV[at])
  if call and call.state ~= 'done' and not concluded_too_late(call) and channel ~= '' then
    subscribe(call, channel)
  end
  reply[#reply + 1], reply[#reply + 2] = describe(tenant, ARGV[at])
end
flush()
return reply
