from . import errors as errors
from . import events as events
from .analysis.comparison import Comparison as Comparison
from .analysis.comparison import compare as compare
from .analysis.listing import list_runs as list_runs
from .analysis.policy_evaluation import PolicyEvaluation as PolicyEvaluation
from .analysis.policy_evaluation import evaluate as evaluate
from .analysis.policy_loading import load_policy as load_policy
from .analysis.video import Video as Video
from .analysis.video import render as render
from .config.loading import dump as dump
from .config.loading import load as load
from .config.sections import Config as Config
from .errors import DqnkitError as DqnkitError
from .events import RunStatus as RunStatus
from .runs.result import TrainResult as TrainResult
from .runs.sync import sync as sync
from .runs.trainer import resume as resume
from .runs.trainer import train as train
from .tuning.options import TuneOptions as TuneOptions
from .tuning.results import TuneResult as TuneResult
from .tuning.search import tune as tune
from .workers.placement import Placement as Placement
from .workers.seeds import SeedsResult as SeedsResult
from .workers.seeds import train_seeds as train_seeds

__version__: str
