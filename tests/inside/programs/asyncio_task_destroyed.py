import asyncio
async def forever():
    await asyncio.sleep(100)
async def main():
    asyncio.create_task(forever(), name="forever")
    await asyncio.sleep(0)
asyncio.run(main())
loop = asyncio.new_event_loop()
print(loop.run_until_complete(asyncio.sleep(0, "value")))
