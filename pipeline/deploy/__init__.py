"""What can be known about the deploy files before anything is sent: each function returns a list of problems.

Nothing here starts Ray, logs in or talks to anybody. `problems(folder)` asks everything; a problem is one line that
names the file, the place in it, and what to do.
"""

from pipeline.deploy.files import JOB, SCHEDULE, Problems, check_files
from pipeline.deploy.formats import check_formats
from pipeline.deploy.image import check_image
from pipeline.deploy.job import check_job, check_same_output
from pipeline.deploy.placement import check_prices
from pipeline.deploy.schedule import check_schedule


def problems(folder: str) -> Problems:
    """Everything that is wrong with the deploy files in a folder."""
    if found := check_files(folder):
        return found
    if found := check_formats(folder):
        return found  # what follows reads them as what they should be
    found = [*check_image(folder), *check_prices(folder)]
    for name in (JOB, SCHEDULE):
        found += check_job(folder, name)
    return found + check_schedule(folder) + check_same_output(folder)
