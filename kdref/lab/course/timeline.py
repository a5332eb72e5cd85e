"""Who said what when about distilling another's model: allegations, called so, and statements. No verdict of ours.

Lesson: notebooks/16_provenance.ipynb. All was read in stored copies of public pages, none of them live.
"""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TIMELINE", "Event", "timeline"]


class Event(NamedTuple):
    """Something said or done in public; ``alleged`` where it is an accusation that its subject has not conceded."""

    date: str
    who: str
    what: str
    alleged: bool
    read: str  # in what we read of it
    source: str


TIMELINE: tuple[Event, ...] = (  # each date is that of the source
    Event(
        "2025-01-20",
        "DeepSeek",
        "releases DeepSeek-R1 under the MIT licence, with six students that learnt from its text",
        False,
        "DeepSeek's own page",
        "https://github.com/deepseek-ai/DeepSeek-R1",
    ),
    Event(
        "2025-01-29",
        "OpenAI",
        "tells the Financial Times that it saw some evidence of distillation by DeepSeek; it gives no details",
        True,
        "a report of the newspaper's report",
        "https://www.semafor.com/article/01/29/2025/openai-accuses-deepseek-of-training-competitor-on-its-model",
    ),
    Event(
        "2025-09-17",
        "DeepSeek",
        "says in the review file of its paper in Nature that the data of R1's base model are from the web and may hold "
        "answers of GPT-4, not by intent, and that there was no stage of distillation",
        False,
        "a report of the review file",
        "https://eu.36kr.com/en/p/3471329256641924",
    ),
    Event(
        "2026-02-12",
        "OpenAI",
        "writes to the House Select Committee on China that DeepSeek's employees took outputs by hidden ways to distil "
        "them",
        True,
        "a report of the letter",
        "https://radar.creative-technology.digital/intelligence/sources/2026-02-12-openai-deepseek-distillation-congress",
    ),
    Event(
        "2026-02-23",
        "Anthropic",
        "names DeepSeek, Moonshot and MiniMax: about 24,000 fraudulent accounts, over 16 million exchanges",
        True,
        "Anthropic's own post",
        "https://www.anthropic.com/news/detecting-and-preventing-distillation-attacks",
    ),
    Event(
        "2026-02-24",
        "Elon Musk, of the rival xAI",
        "answers that Anthropic itself is “guilty of stealing training data at massive scale”; others join him",
        True,
        "a report of his post",
        "https://www.freepressjournal.in/tech/youve-stolen-data-too-elon-musk-the-internet-call-out-anthropics-"
        "hypocrisy-after-chinese-data-theft-announcement",
    ),
    Event(
        "2026-04-24",
        "US State Department",
        "tells its posts to warn of distillation by DeepSeek, Moonshot and MiniMax",
        True,
        "a report after Reuters",
        "https://theslop.news/article/washington-warns-every-government-chinese-ai-theft/",
    ),
    Event(
        "2026-04-26",
        "Chinese embassy in Washington",
        "calls the accusations baseless, and an attempt to hinder the progress of China's AI industry",
        False,
        "a report",
        "https://digibanglatech.news/175171",
    ),
)


def timeline() -> "pd.DataFrame":
    """The events as a table for reading; an allegation is called one."""
    import pandas as pd

    rows = [(e.date, e.who, "alleged" if e.alleged else "", e.what, e.read) for e in TIMELINE]
    return pd.DataFrame(rows, columns=["date", "who", "", "what", "read in"]).set_index("date")
