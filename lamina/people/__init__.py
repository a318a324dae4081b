"""People: enroll, verify, identify, list and revoke them, with a model that was trained on others."""

from lamina.people.people import Decision, Enrollment, People

__all__ = ["Decision", "Enrollment", "People"]
