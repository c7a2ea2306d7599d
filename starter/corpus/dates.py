"""Dates as Koreans and English speakers write and say them."""

from __future__ import annotations

import random

DAYS_KO = ["월요일", "화요일", "수요일", "목요일", "금요일", "토요일", "일요일"]
WORDS_KO = [
    "어제",
    "오늘",
    "내일",
    "모레",
    "그저께",
    "엊그제",
    "글피",
    "지난주",
    "지난달",
    "지난해",
    "작년",
    "재작년",
    "올해",
    "내년",
    "이번 주",
    "다음 주",
    "다음 달",
    "이번 달",
    "이달",
    "내달",
    "지난 주말",
    "이번 주말",
    "다음 주말",
    "올해 상반기",
    "내년 하반기",
    "올 연말",
    "작년 말",
    "내년 초",
    "금년",
    "매주 월요일",
    "이듬해",
    "이번주",
    "다음주",
    "다음달",
    "이번달",
    "지난 달",
    "지난 해",
    "주말",
    "다다음 주",
    "지지난주",
    "올 상반기",
    "지난해 말",
    "올해 말",
    "연초",
    "내후년",
    "며칠 전",
    "이틀 뒤",
    "사흘 전",
    "일주일 전",
    "보름 뒤",
    "한 달 전",
]
YEARS_KO = ["작년", "올해", "내년", "지난해", "재작년"]
SEASONS_KO = ["봄", "여름", "가을", "겨울"]
DAYS_EN = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
MONTHS_EN = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
WORDS_EN = [
    "yesterday",
    "today",
    "tomorrow",
    "tonight",
    "last week",
    "next week",
    "this week",
    "last month",
    "next month",
    "this month",
    "last year",
    "next year",
    "this year",
    "last summer",
    "next spring",
    "this weekend",
    "last night",
    "last weekend",
    "this morning",
    "the day after tomorrow",
    "two days ago",
    "this autumn",
    "next winter",
    "last quarter",
    "next quarter",
    "a week ago",
    "three years ago",
    "a month ago",
    "last spring",
    "last fall",
    "this summer",
    "next fall",
    "the following year",
    "the day before yesterday",
    "later this year",
    "earlier this month",
]


def korean_date(source: random.Random) -> str:
    year, month, day = source.randint(1890, 2035), source.randint(1, 12), source.randint(1, 31)
    weekday, season = source.choice(DAYS_KO), source.choice(SEASONS_KO)
    return source.choice(
        [
            f"{year}년 {month}월 {day}일",
            f"{year}년 {month}월 {day}일",
            f"{year}년 {month}월",
            f"{year}년",
            f"{year}년",
            f"{month}월 {day}일",
            f"{month}월 {day}일",
            source.choice([f"{day}일", f"지난 {day}일", f"오는 {day}일", f"이달 {day}일"]),
            source.choice(
                [
                    f"{month}월",
                    f"{month}월 초",
                    f"{month}월 말",
                    f"{month}월 중순",
                    f"지난 {month}월",
                    f"오는 {month}월",
                    f"{source.choice(YEARS_KO)} {month}월",
                    f"{source.choice(YEARS_KO)} {month}월 {day}일",
                    f"{source.choice(['지난', '오는'])} {month}월 {day}일",
                    f"{year}년 {month}월 {source.choice(['초', '말', '중순'])}",
                    f"{year}년 {source.choice(['초', '말', '상반기', '하반기', f'{day % 4 + 1}분기'])}",
                    f"{day % 9 + 2}{source.choice(['일', '년', '개월', '주'])} {source.choice(['전', '뒤', '후'])}",
                ]
            ),
            weekday,
            source.choice(
                [
                    f"지난 {weekday}",
                    f"다음 주 {weekday}",
                    f"이번 주 {weekday}",
                    f"지난주 {weekday}",
                    f"오는 {weekday}",
                    f"{month}월 {day}일 {weekday}",
                    f"{year}년 {month}월 {day}일 {weekday}",
                    f"{month}월 {day}일({weekday[0]})",
                ]
            ),
            source.choice(
                [
                    f"지난 {season}",
                    f"작년 {season}",
                    f"올해 {season}",
                    f"내년 {season}",
                    f"올 {season}",
                    f"{year}년 {season}",
                ]
            ),
            source.choice(
                [
                    f"{year}-{month:02}-{day:02}",
                    f"{year}.{month}.{day}",
                    f"{year}. {month}. {day}.",
                    f"{year}/{month}/{day}",
                    f"{year // 10 * 10}년대",
                ]
            ),
            source.choice(WORDS_KO),
            source.choice(WORDS_KO),
            source.choice(WORDS_KO[:12]),
        ]
    )


def english_date(source: random.Random) -> str:
    year, month, day = source.randint(1890, 2035), source.choice(MONTHS_EN), source.randint(1, 31)
    weekday, short = source.choice(DAYS_EN), month[:3]
    suffix = "th" if 10 < day < 14 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    return source.choice(
        [
            f"{month} {day}, {year}",
            f"{month} {day}, {year}",
            f"{day} {month} {year}",
            source.choice(
                [
                    f"{short} {day}, {year}",
                    f"{short}. {day}",
                    f"{month} {day}{suffix}",
                    f"{day}{suffix} {month}",
                    f"the {day}{suffix} of {month}",
                ]
            ),
            f"{month} {day}",
            f"{month} {year}",
            month,
            weekday,
            weekday,
            source.choice(
                [
                    f"last {weekday}",
                    f"next {weekday}",
                    f"this {weekday}",
                    f"{weekday}, {month} {day}",
                    f"last {month}",
                    f"next {month}",
                    f"early {month}",
                    f"{weekday} morning",
                    f"late {month}",
                    f"mid-{month}",
                    f"this {month}",
                    f"{weekday}, {month} {day}, {year}",
                    f"{day} {short} {year}",
                    f"{month} {day}{suffix}, {year}",
                    f"{weekday} night",
                    f"early {year}",
                    f"late {year}",
                    f"spring {year}",
                ]
            ),
            source.choice(
                [
                    f"{year}-{source.randint(1, 12):02}-{day:02}",
                    f"{source.randint(1, 12)}/{day}/{year}",
                    f"the {year // 10 * 10}s",
                    f"the summer of {year}",
                ]
            ),
            source.choice(WORDS_EN),
            source.choice(WORDS_EN),
        ]
    )
