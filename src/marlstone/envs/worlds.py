"""The worlds whose returns are recorded, in one list: what `marlstone envs` shows, `benchmarks/worlds.py` measures, the docs' table has."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class World:
    """An environment by name, and how far it is tested.

    Attributes:
      env: `source:name?option=value`.
      needs: the extra that brings its package ("": none).
      trained: `CI`: an update is trained in every run of the tests; `by hand`: by the slow tests, or by whoever measures.
    """

    env: str
    needs: str = ""
    trained: Literal["CI", "by hand"] = "by hand"


WORLDS: tuple[World, ...] = (
    World("jumanji:LevelBasedForaging?task=8x8-2p-2f-coop", trained="CI"),
    World("jumanji:RobotWarehouse?task=tiny-2ag"),
    World("jumanji:RobotWarehouse?task=tiny-4ag"),
    World("jumanji:Connector", "jumanji", "CI"),
    World("jumanji:Cleaner", "jumanji"),
    World("jumanji:MMST", "jumanji"),
    World("jumanji:SearchAndRescue", "jumanji"),
    World("jumanji:MultiCVRP", "jumanji"),
    World("proving:traffic_junction?difficulty=easy", trained="CI"),
    World("proving:traffic_junction?difficulty=medium"),
    World("proving:traffic_junction?difficulty=hard"),
    World("proving:predator_prey"),
    World("proving:predator_prey?dim=10&agents=5&vision=1&max_steps=40"),
    World("proving:signal", trained="CI"),
    World("proving:errands?chatty=true"),
    World("proving:errands?chatty=false"),
    World("jaxmarl:MPE_simple_spread_v3", "jaxmarl"),
    World("jaxmarl:MPE_simple_tag_v3", "jaxmarl"),
    World("jaxmarl:MPE_simple_speaker_listener_v4", "jaxmarl"),
    World("jaxmarl:MPE_simple_reference_v3", "jaxmarl"),
    World("jaxmarl:HeuristicEnemySMAX?scenario=3m", "jaxmarl", "CI"),
    World("jaxmarl:HeuristicEnemySMAX?scenario=2s3z", "jaxmarl"),
    World("jaxmarl:HeuristicEnemySMAX?scenario=3s5z", "jaxmarl"),
    World("jaxmarl:HeuristicEnemySMAX?scenario=5m_vs_6m", "jaxmarl"),
    World("jaxmarl:HeuristicEnemySMAX?scenario=10m_vs_11m", "jaxmarl"),
    World("jaxmarl:HeuristicEnemySMAX?scenario=smacv2_5_units", "jaxmarl"),
    World("jaxmarl:overcooked?layout=cramped_room&shaping=1", "jaxmarl"),
    World("jaxmarl:overcooked?layout=asymm_advantages&shaping=1", "jaxmarl"),
    World("jaxmarl:overcooked?layout=coord_ring&shaping=1", "jaxmarl"),
    World("jaxmarl:overcooked_v2?layout=cramped_room&shaping=1", "jaxmarl"),
    World("jaxmarl:hanabi", "jaxmarl"),
    World("jaxmarl:storm_2p", "jaxmarl"),
    World("jaxmarl:storm_np", "jaxmarl"),
    World("jaxmarl:coin_game", "jaxmarl"),
    World("jaxmarl:switch_riddle", "jaxmarl", "CI"),
    World("jaxmarl:jaxnav", "jaxmarl"),
    World("jaxmarl:ant_4x2", "mabrax"),
    World("jaxmarl:halfcheetah_6x1", "mabrax"),
)
