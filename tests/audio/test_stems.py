from msdm_lite.audio import io, stems


def test_the_stems_of_the_book_and_their_rate():
    assert stems.STEMS == ("bass", "drums", "guitar", "piano") and stems.MIX not in stems.STEMS
    assert (io.STEMS, io.SAMPLE_RATE, io.MIX) == (stems.STEMS, 22050, stems.MIX)
