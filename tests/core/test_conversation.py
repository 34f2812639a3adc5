"""Keys depend on everything up to the end of a block's message, on nothing after it."""

import dataclasses

from ctxpress.conversation import places
from ctxpress.document import Role
from ctxpress.testing import make_block, make_document


def chat(*messages):
    """Blocks of messages; each message is a list of texts."""
    return make_document(
        *(
            make_block(text, message=number, turn=number, pointer=f"/messages/{number}/{part}")
            for number, texts in enumerate(messages)
            for part, text in enumerate(texts)
        )
    )


def keys(document):
    return [place.key for place in places(document)]


def test_growing_a_conversation_keeps_the_keys_of_what_was_there():
    short = chat(["a", "b"], ["c"])
    long = chat(["a", "b"], ["c"], ["d", "e"])
    assert keys(long)[:3] == keys(short)


def test_a_key_depends_on_the_rest_of_its_own_message():
    assert keys(chat(["documents", "question 1"]))[0] != keys(chat(["documents", "question 2"]))[0]


def test_a_prefix_does_not_depend_on_the_rest_of_its_message():
    first, second = chat(["documents", "question 1"]), chat(["documents", "question 2"])
    assert places(first)[0].prefix == places(second)[0].prefix
    assert places(first)[0].message != places(second)[0].message


def test_a_key_depends_on_everything_before():
    assert keys(chat(["a"], ["b"]))[1] != keys(chat(["x"], ["b"]))[1]


def test_equal_texts_in_one_message_have_keys_of_their_own():
    first, second = keys(chat(["same", "same"]))
    assert first != second


def test_opaque_blocks_count_but_have_no_place():
    image = dataclasses.replace(make_block("", digest=b"image 1"), spans=())
    other = dataclasses.replace(image, digest=b"image 2")
    text = make_block("text", role=Role.USER)
    with_image = make_document(image, text)
    assert [place.index for place in places(with_image)] == [1]
    assert keys(with_image) != keys(make_document(other, text))
    assert keys(with_image) != keys(make_document(text))


def test_the_seed_stands_for_earlier_turns():
    document = chat(["a"])
    assert keys(document) != keys(dataclasses.replace(document, seed=b"resp_123"))
