"""What is missing or unsafe in a database, and how to mend it. Looks, and changes nothing."""

from flywheel_db.doctor.examination import examine
from flywheel_db.doctor.finding import Finding

__all__ = ["Finding", "examine"]
