try:
    import no_such_module
except ModuleNotFoundError as error:
    print(error, error.name)
try:
    from json import no_such_name
except ImportError as error:
    print(error)
import sandbox_service.inside.runner
