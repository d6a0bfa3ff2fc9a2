"""Development questions: paraphrases about FAQ sections that are kept out of training.

They choose nothing but the settings of the build; the published figures are measured on other questions.
"""
# ruff: noqa: PLR2004 - the numbers here are the recipe

from collections.abc import Callable, Sequence

import numpy as np

from qwen3_rag.tiny.build.corpus import Corpus
from qwen3_rag.types import FloatArray

#: Question, and how the heading of the section that answers it starts.
QUESTIONS: tuple[tuple[str, str], ...] = (
    ("When would a task queue be useful to me?", "What kinds of things"),
    ("how many lines is the code base", "Does Celery really consist"),
    ("Which third-party libraries get pulled in when I install it?", "Does Celery have many"),
    ("How much memory overhead does it add?", "Is Celery heavy"),
    ("What serialization formats can messages use?", "Is Celery dependent"),
    ("Can it be used with web frameworks other than Django?", "Is Celery for Django"),
    ("Which message brokers besides RabbitMQ are possible?", "Do I have to use AMQP"),
    ("Can clients be written in programming languages other than Python?", "Is Celery multilingual"),
    ("my MySQL database reports deadlocks, how to solve it", "MySQL is throwing"),
    ("The function that queues a job blocks forever and never returns", "Why is Task.delay"),
    ("jobs stay in the queue and nobody consumes them", "Why aren't my tasks"),
    ("How can I empty the queue and discard every pending job?", "How do I purge"),
    ("I emptied the queue but some messages remain", "I've purged"),
    ("look up the outcome of a job by its identifier", "How do I get the result"),
    ("Is deserializing untrusted data dangerous?", "Isn't using"),
    ("Is TLS supported between client and broker?", "Can messages be encrypted"),
    ("May I start the worker with superuser rights?", "Is it safe to run"),
    ("The broker process dies because it runs out of memory", "Why is RabbitMQ"),
    ("keep broker connections open between calls instead of reconnecting", "How can I reuse"),
    ("invoke a job knowing only its registered name", "Can I call a task"),
    ("choose my own identifier for a job", "Can I specify a custom"),
    ("chain one job after another has completed", "Can I run a task once"),
    ("How do I abort a job that is already running?", "Can I cancel the execution"),
    ("How to route jobs to particular machines", "Can I send some tasks"),
    ("Modify the schedule of a recurring job without restarting", "Can I change the interval"),
    ("Are more urgent jobs executed first?", "Does Celery support task"),
    ("delay a job until tomorrow morning", "Can I schedule tasks"),
    ("What signal should be sent for a graceful stop?", "Can I safely shut"),
    ("Does it run on Microsoft operating systems?", "Does Celery support Windows"),
    ("change the look of the administration pages", "The dynamically-generated"),
    ("Does the administration interface work with screen readers?", "What assistive"),
    ("Can I use Firefox or Safari for the administration pages?", "What browsers"),
    ("My patch has been waiting for review for weeks", "I submitted a bug"),
    ("Where does the name come from and how is it said?", 'What does "Django" mean'),
    ("Can it handle a very large number of visitors?", "Does Django scale"),
    ("Who created and maintains this framework?", "Who's behind"),
    ("Under what terms may I redistribute the source?", "How is Django licensed"),
    ("Is it mature enough for production?", "Is Django stable"),
    ("reading the manual without internet access", "How can I download"),
    ("How should I reference the framework in a scientific paper?", "How do I cite"),
    ("What should I do when I discover a vulnerability?", "I think I've found a security"),
    ("Which interpreter release is recommended?", "What Python version should"),
    ("Show the database statements that are executed", "How can I see the raw"),
    ("I altered my model classes; how do the tables get updated?", "If I make changes"),
    ("Are composite primary keys possible?", "Do Django models support"),
    ("Can I store data in MongoDB or another non-relational store?", "Does Django support NoSQL"),
    ("The shell cannot find the command after installation", "`command not found"),
    ("permission denied on a Mac", "macOS permissions"),
    ("error decoding non-ASCII text", "I'm getting a `UnicodeDecodeError`"),
    ("Is a different template engine possible?", "I can't stand"),
    ("handling uploaded pictures in a model", "How do I use image"),
    ("make a value accessible in every template", "How do I make a variable"),
    ("What's the difference from an HTML parser library?", "How does Scrapy compare"),
    ("Can I crawl through a proxy server?", "Does Scrapy work with HTTP"),
    ("the crawler's memory keeps growing", "My Scrapy crawler has"),
    ("The site answers in the wrong language", "Why does Scrapy download"),
    ("log in with user name and password at the HTTP level", "Can I use Basic HTTP"),
    ("run a single-file crawler", "Can I run a spider"),
    ("export everything I collected to a spreadsheet file", "Simplest way"),
    ("Are session cookies kept between requests?", "Does Scrapy manage"),
    ("How to end the crawl from inside the code", "How can I instruct"),
    ("read very large XML files without loading them completely", "What's the best way to parse"),
    ("XPath finds no elements in my XML file", "I'm scraping an XML"),
)


def documents(corpus: Corpus) -> list[str]:
    """The sections that the questions are asked about, headings included."""
    return [f"{p.title}\n\n{p.text}" for p in corpus.held_out]


def relevant(corpus: Corpus) -> list[set[int]]:
    """For every question, the positions of the sections that answer it."""
    return [{i for i, p in enumerate(corpus.held_out) if p.title.startswith(start)} for _, start in QUESTIONS]


def score(
    corpus: Corpus, queries: Callable[[Sequence[str]], FloatArray], passages: Callable[[Sequence[str]], FloatArray]
) -> dict[str, float]:
    """Measure recall and mean reciprocal rank on the development questions.

    Args:
        corpus: has the held-out sections.
        queries: encodes questions to unit rows.
        passages: encodes sections to unit rows.
    """
    similarity = queries([q for q, _ in QUESTIONS]) @ passages(documents(corpus)).T
    order = np.argsort(-similarity, axis=1, kind="stable")
    truth = relevant(corpus)
    ranks = np.array([next(r for r, i in enumerate(row, 1) if i in ids) for row, ids in zip(order, truth, strict=True)])
    return {
        "recall@1": float((ranks <= 1).mean()),
        "recall@3": float((ranks <= 3).mean()),
        "mrr@10": float(np.where(ranks <= 10, 1 / ranks, 0).mean()),
    }
