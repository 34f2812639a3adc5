"""The words that the tasks of `kv_tasks` are made of.

Each is one token of the reference model's tokenizer, with a blank before it.
"""

from __future__ import annotations

from collections.abc import Mapping

NAMES: tuple[str, ...] = tuple(
    """
    Abbott Acorn Adair Alder Amber Anders Ansel Anton Arden Arlo Ashby Aster Atlas Auburn Avery
    Baird Barlow Barton Basil Baxter Becker Bellamy Benson Berwick Birch Blake Bowen Bram Brandt
    Briar Brook Bruno Byron Cade Calder Callum Camden Carver Casper Cedric Chandler Cleo Clifton
    Colby Conrad Cora Corbin Cosmo Crane Crosby Cyrus Dalton Damon Darby Darcy Davin Delia Dexter
    Dorian Drake Duncan Dunstan Easton Edgar Edison Effie Elden Elgin Elias Ellis Elmer Elwood
    Emery Enid Ennis Esme Ewan Ezra Fabian Farley Felix Fenton Fergus Finch Flora Forbes Foster
    Freya Gable Galen Garth Gemma Gideon Gilbert Giles Glenn Goran Greta Griffin Gunnar Hadley
    Halsey Hanley Harlan Harper Hector Hedda Heath Henrik Holden Horace Hugo Ibsen Ida Ingrid Ione
    Irving Isaac Ivor Jarvis Jasper Jensen Jericho Joel Jonas Jora Jude Juno Kaspar Keaton Keegan
    Keller Kendra Kermit Kipling Kirby Klara Knox Lachlan Lambert Landon Larkin Laszlo Leif Lennox
    Leroy Linus Logan Lorne Lowell Lucius Luther Lyle Mabel Magnus Malin Marlow Mercer Merrick Milo
    Mira Monroe Mortimer Murray Myles Nadia Nash Nelson Nestor Neville Nico Niles Nolan Norris
    Oakley Odette Olaf Olin Orson Oscar Osmond Otto Owen Palmer Pascal Paxton Percy Perkins Petra
    Phelps Pierce Piper Porter Prescott Quade Quentin Quill Quincy Radley Ralph Ramsey Raven Reed
    Regan Remus Rhett Ridley Robin Rocco Roland Roscoe Rowan Rufus Rupert Sable Salem Samson Sawyer
    Selma Seth Shelby Sidney Silas Simeon Sloane Spencer Stefan Sterling Sutton Sven Sybil Talbot
    Tamsin Tanner Tate Thaddeus Thelma Theo Thorne Tilda Tobias Torin Trent Tristan Tucker Tyson
    Ulric Ursula Vance Vera Vernon Viggo Viola Virgil Wade Walden Walton Warner Wendell Weston
    Wilbur Willa Winston Wren Wyatt Yale Yates Yorick Yvette Zane Zara Zelda Zeno
    """.split()
)
"""Entities: titles of documents and keys of facts."""

VALUES: Mapping[str, tuple[str, ...]] = {
    attribute: tuple(words.split())
    for attribute, words in {
        "colour": "red blue green yellow purple orange white black brown grey pink violet scarlet"
        " crimson turquoise beige maroon olive indigo teal",
        "city": "Paris London Berlin Madrid Rome Vienna Prague Dublin Lisbon Oslo Athens Warsaw"
        " Cairo Tokyo Delhi Lima Boston Chicago Toronto Sydney",
        "animal": "horse tiger rabbit eagle otter wolf bear fox camel badger falcon lizard"
        " salmon spider turtle whale zebra donkey goat heron",
        "fruit": "apple pear plum cherry mango lemon peach grape melon banana apricot fig papaya"
        " raspberry blueberry coconut kiwi lime quince date",
        "instrument": "piano violin guitar flute drum trumpet cello harp clarinet organ banjo"
        " oboe bassoon tuba accordion mandolin trombone fiddle lute zither",
        "metal": "gold silver copper iron zinc lead nickel platinum titanium cobalt tungsten"
        " bronze steel brass chromium mercury lithium uranium pewter aluminium",
        "sport": "tennis football hockey cricket rugby boxing rowing sailing skiing golf archery"
        " fencing judo polo surfing cycling swimming wrestling badminton karate",
        "trade": "baker tailor farmer doctor lawyer teacher carpenter painter plumber sailor"
        " miner potter barber butcher weaver mason jeweller printer surgeon chemist",
    }.items()
}
"""Values of one token, by attribute; the lists have no word in common and serve as categories."""

DIGITS: Mapping[str, int] = {"room": 2, "code": 3, "number": 4}
"""Attributes whose value is a number, and how many digits (tokens) it has."""

LABELS: tuple[str, ...] = tuple(
    """
    zan mip dax wug blick fep toma lorp gazzer kiki bouba snerd plonk quib rall vosh tark nuv
    chib drot glim hask jom yelp
    """.split()
)
"""Labels without a meaning of their own."""

NOUNS: tuple[str, ...] = tuple(
    """
    garden river window mountain letter bridge table island forest market castle lamp valley road
    field tower harbour cellar kitchen meadow village station library museum theatre corner
    basket blanket bottle bucket candle carpet chair clock curtain ladder mirror paper pillow
    rope saddle shelf spoon stone
    """.split()
)
ADJECTIVES: tuple[str, ...] = tuple(
    """
    old small quiet bright narrow heavy distant empty broken gentle warm cold early ancient busy
    clean common deep famous large
    """.split()
)
VERBS: tuple[str, ...] = tuple(
    "stood lay fell waited rested moved appeared remained turned stayed".split()
)
PLACES: tuple[str, ...] = tuple("near behind beside under above beyond against below".split())
