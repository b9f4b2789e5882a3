import asyncio
async def f(n):
    await asyncio.sleep(0.01 * n)
    return n
async def main():
    print(await asyncio.gather(*(f(n) for n in (3, 1, 2))))
    print(await asyncio.to_thread(sum, [1, 2, 3]))
    try:
        await asyncio.wait_for(asyncio.sleep(5), 0.02)
    except TimeoutError as error:
        print("timed out", repr(error))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(f(1))
    print(task.result())
asyncio.run(main())
