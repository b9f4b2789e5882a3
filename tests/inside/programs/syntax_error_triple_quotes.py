a = """never
closed
