"""What a service publishes, made by hand; how to send it to a broker, and to take it from a subscription."""

from __future__ import annotations

import asyncio
import contextlib

import numpy as np
import pytest
from aiokafka import AIOKafkaProducer

import streamchar
from streamchar.characterize.catalog import Column, flag
from streamchar.characterize.psf.pixel_basis import PixelBasisPsf
from streamchar.characterize.psf.polynomial import PositionPolynomial, SpatialBasis
from streamchar.messages import (
    ProductIdentity,
    Provenance,
    PsfModel,
    PsfQuality,
    encode,
    encode_catalog,
    encode_psf_model,
)
from streamchar.messages.psf_conversion import describe_psf

PROVENANCE = Provenance(software_version="1")
COLUMNS = [Column("id", "<i8", "", "identifier"), Column("flux", "<f8", "adu", "flux"), flag("bad", "flag")]


def identity(exposure, detector=0, instrument="DemoCam", band="r"):
    return ProductIdentity(
        f"event {instrument} {exposure}", instrument, exposure, detector, "sha256:" + "ab" * 32, band
    )


def quality(exposure, outcome="succeeded", **options):
    return encode(
        PsfQuality(**identity(exposure, **options).fields(), outcome=outcome, provenance=PROVENANCE)
    )


def psf_of(exposure):
    """A model that takes several messages."""
    random = np.random.default_rng(exposure)
    polynomial = PositionPolynomial(2, 100.5, 200.25, 1000.0, 900.0)
    components = random.normal(size=(6, 31, 31))
    spatial = SpatialBasis(polynomial, random.normal(size=(6, 6)))
    return PixelBasisPsf(components, spatial, 0.5, 15, (float(exposure), 2.0))


def psf(exposure, outcome="succeeded", **options):
    fields, arrays = describe_psf(psf_of(exposure))
    who = identity(exposure, **options).fields()
    model = PsfModel(**who, **fields, outcome=outcome, provenance=PROVENANCE)
    return encode_psf_model(model, arrays, max_chunk_bytes=30_000)


def catalog_data(exposure, rows):
    flux = np.random.default_rng(exposure).normal(size=rows)
    flux[::7] = np.nan
    return {"id": np.arange(rows), "flux": flux, "bad": np.isnan(flux)}


def catalog(exposure, rows=2000, outcome="succeeded", **options):
    return encode_catalog(
        COLUMNS,
        catalog_data(exposure, rows),
        identity=identity(exposure, **options),
        provenance=PROVENANCE,
        metadata={"NOISE_SEED_MULTIPLIER": 1, "RADII": [3.0, 4.5]},
        outcome=outcome,
        max_chunk_bytes=12_000,
    )


@contextlib.asynccontextmanager
async def sender(bootstrap, topics, **options):
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, **options)
    await producer.start()

    async def send(*messages, partition=0, at=None):
        for message in messages:
            await producer.send_and_wait(
                topics.name_of(message.topic_type),
                message.value,
                message.key,
                partition=partition,
                headers=message.headers,
                timestamp_ms=None if at is None else round(1000 * at),
            )

    try:
        yield producer, send
    finally:
        await producer.stop()


async def take(subscription, count, timeout=20.0):
    """The next records, leaving the subscription open."""
    found = []
    async with asyncio.timeout(timeout):
        async for record in subscription:
            found.append(record)
            if len(found) == count:
                break
    return found


async def nothing_more(subscription, seconds=1.5):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(seconds):
            await anext(aiter(subscription))


def open_at(bootstrap, topics, products="quality", **options):
    return streamchar.subscribe(bootstrap, products=products, topics=topics, from_beginning=True, **options)


async def begin(subscription):
    """Ask for a record without waiting for it."""
    waiting = asyncio.create_task(take(subscription, 1, 60))
    await asyncio.sleep(0.5)
    return waiting
