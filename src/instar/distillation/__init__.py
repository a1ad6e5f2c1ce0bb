"""Knowledge distillation: Hinton, Vinyals, Dean 2015."""

from instar.distillation.students import distill, train_network
from instar.distillation.teachers import StoredLogits, Teacher

__all__ = ["StoredLogits", "Teacher", "distill", "train_network"]
