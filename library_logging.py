"""Keeps what a person writes, and what an image's header says, out of every log.

Many libraries write their arguments at the levels DEBUG and INFO: an SQL driver its parameters, an HTTP
client its request, an image reader its tags. Where a program sets the root logger to DEBUG, these lines
would hold clinical text.
"""

from __future__ import annotations

import logging

GUARDED = (
    "PIL",
    "aiobotocore",
    "aiohttp",
    "aiosqlite",
    "authlib",
    "boto3",
    "botocore",
    "bs4",
    "dicomweb_client",
    "fastapi",
    "fontTools",
    "fsspec",
    "gradio",
    "gradio_client",
    "grpc",
    "highdicom",
    "httpcore",
    "httpcore2",
    "httpx",
    "httpx2",
    "huggingface_hub",
    "inspect_ai",
    "jinja2",
    "langchain",
    "langchain_core",
    "langchain_openai",
    "langgraph",
    "langgraph_sdk",
    "langsmith",
    "libjpeg",
    "markdown_it",
    "mcp",
    "multipart",
    "openai",
    "openjpeg",
    "opentelemetry",
    "psycopg",
    "pydicom",
    "pylibjpeg",
    "pynetdicom",
    "python_multipart",
    "ray",
    "reportlab",
    "requests",
    "rich",
    "s3fs",
    "s3transfer",
    "sse_starlette",
    "starlette",
    "tifffile",
    "transformers",
    "upath",
    "urllib3",
    "uvicorn",
    "weaviate",
    "websockets",
)
"""Loggers of libraries that handle images, requests or what is written."""


def guard_libraries() -> None:
    """Let these libraries log warnings and errors only, whatever the root logger's level is.

    A level that a program has set for one of them itself is left as it is.
    """
    for name in GUARDED:
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.WARNING)
