"""Very frequent words, word endings, word beginnings and letters of languages that share a script.

Written from general knowledge of the languages, not taken from a corpus.
"""

# ruff: noqa: RUF001
from __future__ import annotations

# A tie goes to the language that stands first.
WORDS = {
    "af": "die en van het is in wat nie vir dat met om te op was hy sy ons hulle julle ek jy "
    "aan as word deur kan sal ook maar uit by hierdie daar baie oor na nog moet een tot "
    "toe sê gaan sou my jou haar wees hê kon wil waar hoe wanneer omdat tussen onder teen "
    "maak kom dan so reeds se",
    "az": "və bir bu ilə üçün də da olan idi ki o olaraq sonra ildə onun daha kimi çox hər ən "
    "nə amma isə var yox mən sən biz siz onlar edir etdi olub olduğu tərəfindən qədər "
    "qarşı görə bütün deyil belə həmin artıq azərbaycan ona bunu başqa yeni il ildir "
    "olmuşdur edilmişdir üzrə əsas",
    "ca": "de la el i a que en les els per un una amb és del no es al va són més com seva seu "
    "dels aquest aquesta però també o ha les pel ser han molt fer quan ens tot dos anys "
    "on sobre hi ho si ja així ni tots perquè està qui després entre fins sense durant "
    "aquests altres què vaig jo",
    "cs": "a v se na je že s z to do o k i ve pro za by ale jsem jsou byl byla bylo jako po od "
    "tak co který která které kteří jeho její nebo při před už jen však také může aby "
    "když kde pod než mezi podle bude tím této tento roce roku není jsme má lze být jste "
    "až svou více ještě proti ze",
    "cy": "y yr a yn i o ar mae gan am ei eu ac wedi bod oedd fod ond hefyd hyn yw nid roedd "
    "sydd gyda fel ni un na wrth at neu cael ein dros mewn bydd maent rhai pan hynny i'r "
    "o'r ddim beth mwy eich chi rhwng gwaith cymru cymraeg dim nad oes hwn hon hwnnw ydy "
    "gwneud fe mai er",
    "da": "og i at er en den til på de med det for af som ikke der et var han har jeg fra om vi "
    "eller kan blev men hun ved efter også skal vil man dig mig sig ud op nu da når hvor "
    "hvad være bliver blevet meget kun dette denne disse mellem noget nogle ham deres "
    "hans hende under mod så år over havde selv år uden alle mere ind kunne skulle ville "
    "os jer hvis hvordan siden dem",
    "de": "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als "
    "auch es an werden aus er hat dass sie nach wird bei einer um am sind noch wie einem "
    "über einen so zum war haben nur oder aber vor zur bis mehr durch man sein wurde sei "
    "ich wir ihr mich wenn kann schon sehr diese dieser dieses keine unter gegen uns ihre "
    "seine wurden hatte diesem zwischen",
    "en": "the of and to in a is that for it was on are with as his they at be this from i have "
    "or by one had not but what all were when we there can an your which their if will "
    "each about how up out them then she many some so these would other into has more her "
    "two him see could no make than been its who my do did you he our any only also after "
    "us most where me",
    "eo": "la de kaj en estas al kiu estis por ke li kun oni mi ne el ĝi pri kiel sed tiu ili "
    "ĉi kiuj aŭ sur per ŝi ni vi ankaŭ estas ĉiuj povas havas tiuj tio tre nur post antaŭ "
    "inter kiam ĝis unu dum pli sub ĉe jam do eĉ ajn kontraŭ esperanto esti estu lia ĝia "
    "ilia mia kie tiel ĉar laŭ tra",
    "es": "de la que el en y a los se del las un por con no una su para es al lo como más pero "
    "sus le ya o este sí porque esta entre cuando muy sin sobre también me hasta hay "
    "donde quien desde todo nos durante todos uno les ni contra otros ese eso ante ellos "
    "esto mí antes algunos qué unos yo otro otras otra él tanto esa estos mucho fue era "
    "son está ser han años ha había",
    "et": "ja on ei et ka see kui oli mis oma aga või siis seda nii ta ning tema kes välja mida "
    "pole olid kuid selle ma veel poolt kõik need aasta peale kus üle siin ainult väga "
    "ole olla aastal saab mitte juba nende ega pärast enne alla ühe selles sest teda nad "
    "me te sa üks kaks ajal oleks",
    "eu": "eta da ez ere bat zen izan du dira baina egin dela den hau edo hori zuen zuten "
    "zituen ziren dute honen baino gero oso beste bere egiten bai bezala izango izaten "
    "ditu bai hiru bi arte batean urte urtean dagoen dago daude zer nola non hori guztiak "
    "gehiago behar ari nire gure",
    "fi": "ja on ei se että oli hän ovat mutta myös kun kuin joka ole olen tai mukaan jotka "
    "niin vain sen hänen vuonna sekä ollut jo mitä kuitenkin olisi voi kanssa myös siitä "
    "tämä tämän jos nyt ne he me minä sinä kaikki mikä sitä jonka joita ennen jälkeen "
    "noin hyvin eivät asti miten sitten vuoden vielä oman koska enää tässä siinä jossa "
    "niiden ilman ettei joissa kaksi oma saa itse",
    "fr": "de la le et les des en un du une que est dans qui par pour au il sur pas plus ce se "
    "avec ne sont à son sa ou mais on nous comme été aux cette ont elle était être deux "
    "ces je fait tout leur ses même aussi peut si bien ans sans entre après lui vous "
    "leurs encore où très avait dont sous donc depuis moi c'est j'ai ils faire contre "
    "quand notre votre mon",
    "ga": "an na agus a i ar is le go ag bhí sa tá do ní mar a leis ó as seo sin san atá de "
    "faoi den chun nach ach raibh sé sí siad don nó bhfuil féin bheith sna gach aon ina "
    "tar éis idir gur tá againn acu bliain nuair eile mór anois dhá déan níos sé mé tú "
    "chuaigh rinne ceann áit duine",
    "hr": "je i u se na da su za od koji koja koje s kao ali iz ili bio bila bilo nije što ne "
    "to po kako samo ima će bi kada gdje također prema sve godine godina ovaj ova dok "
    "protiv između uz nakon zbog te tisuća povijest povijesti općina glede kolovoza rujna "
    "listopada studenoga prosinca siječnja veljače ožujka travnja svibnja lipnja srpnja "
    "tijekom tjedna uopće hrvatske zagrebu tvrtka sustav europske uporabu tko netko "
    "sukladno zrakoplov osobito glazbe jest",
    "bs": "je i u se na da su za od koji koja koje sa kao ali iz ili bio bila bilo nije što šta "
    "ne to po kako samo ima će bi kada gdje također prema sve godine godina ovaj ova dok "
    "protiv između uz nakon zbog općina hiljada historija historije lahko kahva općine "
    "mjesto tokom sedmice sedmica uvijek međutim bosne hercegovine sarajevo sarajevu "
    "opšte saopćio",
    "hu": "a az és hogy nem is egy ez volt meg már csak de van el ha még mint kell vagy azt ki "
    "lehet azonban minden sem után pedig lesz mert úgy így vagyok szerint illetve nagyon "
    "majd akkor itt ami olyan során között több ezt aki fel ott által két alatt nincs "
    "ezek amely voltak lett ahol mit hogyan magyar én te ő mi ti ők évben első valamint "
    "egyik",
    "id": "yang dan di ini itu dengan untuk dari dalam tidak akan pada juga ke saya karena "
    "tersebut bisa ada mereka lebih kata tahun sudah atau saat oleh menjadi orang ia "
    "telah adalah seperti sebagai bahwa dapat para harus namun kita dua satu masih hari "
    "hanya mengatakan kepada kami setelah lagi bukan anda apa belum jika maka secara "
    "sangat seorang banyak pun tetapi berbagai karena beberapa uang kota provinsi "
    "indonesia jakarta bahkan kamu aku nya rumah",
    "is": "og að í á er sem til um var við en með ekki það af hann fyrir því frá hefur þar eru "
    "ég þá þess hún eða þeir hans þau vera sér upp þetta svo verið eins voru þegar sé "
    "hafa sig mér út nú hvað þú eftir allt skal vegna þeim þann undir öllum annað mjög "
    "þessu inn bara kom hafði yfir",
    "it": "di e che la il un a per in una mi sono ho non ma lo ha le si con ti se cosa del come "
    "i da ci questo no qui hai bene tu sei sua o perché della al suo nel dei più alla "
    "anche dal delle gli era dalla è nella essere stato solo quando tutto due dopo degli "
    "fatto fra tra questa anni stata sulla poi ed molto sia suoi loro già così tutti",
    "la": "et in est non ad ut cum qui quod sed ex quae si de esse sunt per ab aut nec enim "
    "etiam atque ac autem eius hoc ne quam erat a se quo quidem iam tamen inter sub ante "
    "post anno fuit eum pro eorum vel nisi hic haec nunc mihi tibi omnia id sibi res "
    "quoque igitur causa sicut ubi apud ipse illi eo suum deus unde aliquid esset urbs "
    "urbis",
    "lg": "mu ku nga ne era nti ba ye e ng'a okuva abantu kubanga naye bwe ate kye oba gye ekyo "
    "nnyo ki buli ebyo olw okuba abo kati kuba kwe yali baali emu omu bonna bwa lwa kya "
    "gwa bya ezo nze ffe omuntu eyo mulimu kampala wano omulimu bino kino abalala okukola "
    "nnyini gavumenti ekintu",
    "lt": "ir į kad yra iš su tai o kaip ne už bet tik apie buvo jo dėl prie savo jis jau nuo "
    "po taip pat ar kai gali labai metų ką dar bei man iki per jie arba šis ši šio nėra "
    "būti jos mes mano tuo kas vienas kur metais m. jų turi jei mūsų tarp tačiau visi "
    "kurie kuris kuri daugiau pagal todėl",
    "lv": "un ir no ar uz ka kas par to bija tas vai ja bet kā nav pie gan es jau pēc arī tā "
    "lai savu vēl līdz viņš ko kad viņa tad var tikai mēs tiek šī būs būt gada gadā ļoti "
    "ne kurā kuru kurš kura lielu bez tam esam visi vairāk starp kur man savas pret laikā "
    "jūs tiem šo šis ap nekā ikviens",
    "mi": "te o i ki ngā he e nga me ka ko a kia kei hoki mai tēnei ana mō mo ai ia atu nei hei "
    "tonu rātou tōna tāna ake tētahi rawa kua katoa kāore āna kaua tangata iwi māori "
    "maori whakaaro tau wā mea mahi pai nui tenei tana tona ratou matou mātou koutou "
    "tātou whenua roto runga tetahi whaka",
    "ms": "yang dan di ini itu dengan untuk dari dalam tidak akan pada juga ke saya kerana "
    "tersebut boleh ada mereka lebih kata tahun sudah atau oleh menjadi orang ia telah "
    "adalah seperti sebagai bahawa para harus namun kita dua satu masih hari hanya kepada "
    "kami selepas lagi bukan anda apa belum jika maka secara sangat seorang banyak pun "
    "tetapi beliau berkata malaysia negara kerajaan bagi mempunyai pelbagai wang semasa "
    "manakala iaitu daripada apabila pula agar rakyat ketika turut datuk seri negeri baru "
    "sahaja mahu awak ialah kereta tak yg nak ni tu je",
    "nb": "og i det på som er en til å han av for med at var de ikke den har jeg om et men så "
    "seg hun hadde fra vi du kan da ble ut skal vil ham etter over ved også bare eller sa "
    "nå dette noe være meg mot opp der når inn dem kunne andre blir alle noen sin ha år "
    "henne må selv sier få kom denne enn to hans bli ville før vært skulle går her slik "
    "gikk mer hva igjen fikk man mange siden",
    "nl": "de van het een en in is dat op te zijn voor met die niet aan er om ook als dan maar "
    "bij of uit nog worden door naar heeft tot ze wordt over hij deze waar zich meer hun "
    "kan geen dit werd al was je ik wel onder we heb hebben deze haar toch tussen veel "
    "zou moet zal na tegen jaar omdat mijn gaan wat wie nu mensen ons uw zij hoe waren "
    "had alle andere kunnen eerste",
    "nn": "og i det på som er ein til å han av for med at var dei ikkje den har eg om eit men "
    "så seg ho hadde frå vi du kan då vart ut skal vil etter over ved også berre eller sa "
    "no dette noko vere meg mot opp der når inn kunne andre blir alle nokon sin ha år "
    "henne må sjølv seier få kom denne enn to hans bli ville før vore skulle går her slik "
    "gjekk meir kva mykje kor korleis desse kvar nokre fleire ifrå mellom saman berre "
    "vere einast òg nye dykk kjem me medan skule",
    "pl": "i w na z do się nie że to jest o jak a po co od za dla przez tak ale jego był przy "
    "już było być oraz może są tylko czy lub który która które jej ze ich tym również "
    "także bardzo pod tego gdy można roku przed nad między jednak była ma ten ta te mnie "
    "mi mam tej został została we jako więc bo sobie tu aby latach lat ponieważ gdzie "
    "kiedy wszystko wszystkie",
    "pt": "de a o que e do da em um para é com não uma os no se na por mais as dos como mas foi "
    "ao ele das tem à seu sua ou ser quando muito há nos já está eu também só pelo pela "
    "até isso ela entre era depois sem mesmo aos ter seus quem nas me esse eles estão "
    "você tinha foram essa num nem suas meu às minha têm numa pelos elas havia seja qual "
    "será nós são anos",
    "ro": "de și în a la cu pe care din că o nu un este pentru mai se sunt au ca fost fi să "
    "prin sau lui dar după ale lor al avea ce era fost am între această acest acestea "
    "cele fără către despre două unei unui cel cea cei poate decât foarte toate tot când "
    "dacă aceasta numai toți ei ea el eu noi si sa in asupra până pana ani unde prima şi "
    "ţi iar doar fiind",
    "sk": "a v sa na je že s z to do o k aj vo pre za by ale som sú bol bola bolo ako po od tak "
    "čo ktorý ktorá ktoré ktorí jeho jej alebo pri pred už len však tiež môže aby keď kde "
    "pod než medzi podľa bude tým tejto tento roku nie sme má byť ste až svoju viac ešte "
    "proti zo ich sú iba preto bez nich kto mi si toto boli veľmi toho ho roka",
    "sl": "in je v na se da za so pa ki z po ne s tudi od ali kot bi ni bil bila bilo še če pri "
    "o to ter do iz samo sem smo bo ko kar lahko več že med kako ima njegov leta let tako "
    "ga jih kjer zaradi zelo vse bolj brez pred ob sta bodo kaj svoje ta te to tega nekaj "
    "nad proti potem tem katerih mora sicer vendar prav sicer tej",
    "sn": "uye kuti ne kana asi iye ini iwe zvino saka kwete izvi iri vanhu munhu ndi zvake iyi "
    "ava pamusoro kune zvinhu ari vari muna kubva zvakare nekuti ndiri ndinoti zvose "
    "chete apo pane pano wake vake rake yake sei ndakanga akati zvikuru nenyaya nyika "
    "nguva vana mwana mumwe vamwe here panguva sezvo kuita anoti achiti makore",
    "so": "waa oo ka ku iyo ah uu in ay la soo u si ee aan loo isku waxa wuxuu waxay waxaa ayaa "
    "ma ee uga lagu kale leh sida wax marka qof dad dadka kaas tahay yahay ahaa haddii "
    "waxaan wuxu kala badan kuu hal markii lahaa gaar tan kan xaq dalka ugu inuu inay "
    "magaalada soomaaliya wasiirka maxaa kuwa wada ayey aad buu",
    "sq": "të e në dhe i një për me nga që më është u ka së se do si nuk kjo ai por ky shumë "
    "janë kur ishte duke tij pas edhe ose saj tyre kanë jo kishte ndërsa vetëm nëse sipas "
    "mund deri gjatë ata mbi ndaj ku ju unë ti ne ato këtë këto pa këta shqipëri çdo kemi "
    "tek asnjë pasi prej tjetër vit",
    "st": "ho le ka ya o ba e ke ha hore ea tsa la sa mme kapa di ha empa feela tse batho hona "
    "hae lona bona eo bo mo se yo haholo rona lefatshe ena motho kgotsa wa a na nako "
    "jwalo ntho jwang tla ne neng hlokomela leha fela moo hoo hobane mohla ntle holo "
    "jwale etsa etswa molemo bophelo hao",
    "sv": "och i att det som en på är av för med den till ett har de inte om han men var sig "
    "från vi så kan när man år säger hon under också efter eller nu sin där vid mot ska "
    "skulle kommer ut får finns vara hade alla andra mycket än här då sedan över bara "
    "blir upp även vad få två vill ha många hur mer går jag sverige detta något blev oss "
    "allt era denna mellan dessa utan honom",
    "sw": "ya na wa kwa ni katika la za kuwa cha hii vya kama huo hiyo huyo yake hilo lakini "
    "wake baada watu ambao moja pia mwaka mji kutoka nchi tu au bila hivyo mwa kila sana "
    "wakati huu sasa hata ambayo ili mtu mimi sisi wewe yeye wao hayo kuhusu ndani zaidi "
    "pamoja kufanya wengi serikali tangu kati hapa nini alikuwa ilikuwa tanzania kenya "
    "iko bado",
    "tl": "ang ng sa na at mga ay si ni ako ito hindi para kung ko mo niya siya kay may mula "
    "isang nang ka lang ba pa din rin kanyang sila kanilang ngunit dahil upang noong "
    "ating tayo kami natin namin ikaw iyon wala walang mayroon bilang isa dalawang maging "
    "habang nito nila po naman sino ano bakit paano kaya lamang pero tao ilang doon dito "
    "alam iba ibang",
    "tn": "go le ka ya o ba e ke fa gore tsa la sa mme kgotsa di mo ga mo bo se tse batho gape "
    "gagwe gone bone rona motho jaaka wa a na nako jalo fela tla ne neng kwa teng thata "
    "jaanong bonnye tota dira dirisa ngwaga gonne morago tsotlhe botlhe ntlha eno seno "
    "tiro mongwe bangwe sengwe setšhaba puso sentle batla lefatshe dikgang",
    "tr": "ve bir bu da de için ile çok olarak daha olan gibi en kadar sonra ne ki o ama var "
    "her bunu ben sen biz siz onlar mi mı değil ya veya olduğu ise olduğunu kendi yıl "
    "göre tarafından önce yeni türkiye büyük iki ancak diye şey hem bütün nasıl neden şu "
    "onun ona beni yok oldu vardır ilk yılında bana bile içinde üzerine arasında "
    "içerisinde yapılan",
    "ts": "ku na ya va ka leswaku hi xi wa le loko swi kumbe ri eka la nga ni u vanhu swa ma ti "
    "yi hikuva kambe munhu leyi lowu leswi leri lava swin'wana ngopfu endla ntsena "
    "van'wana hinkwaswo hinkwavo mina wena yena vona hina laha tiko xikwembu nkarhi hambi "
    "ntirho tano ndzi xa bya byi endzeni timhaka",
    "vi": "và của là có được cho không trong một với những các người này đã khi đến để về như "
    "cũng từ ra vào ở nhiều năm ông đó bị lại hơn làm sẽ phải mà nhưng thì tại còn nên "
    "theo trên chỉ anh tôi đây rất nếu việc do vì sau thể bạn nước ngày đang hai gì chúng "
    "con",
    "xh": "ukuba kwaye okanye into ke kodwa ngoku xa loo oko nto ngenxa kunye abantu umntu enye "
    "uya na le kwi kubo apho ngaphandle kufuneka abo ngawo kakhulu nangona njalo ngokuba "
    "kananjalo yi zonke bonke ndiya ndi imisebenzi abantwana ilizwe yakhe wakhe bakhe "
    "kulo ngubani ngakumbi eli esi lo kuba kukho kwa wathi phambi emva ixesha unyaka "
    "usenokuba ungasebenzisa koko yokuba lowo elowo",
    "yo": "ni ti tí àti ati ní sí si ó o náà naa fún fun láti lati pé pe jẹ\u0301 je kan wọn "
    "won bá ba kò ko àwọn awon ń sì wà wa yìí yii lọ lo inú rẹ\u0300 re tó to gbogbo nínú "
    "ninu ṣe se bí bi nígbà nigba ènìyàn eniyan ọmọ omo mo wọ\u0301n orí kí ọdún odun "
    "lórí ilẹ\u0300 ìlú jẹ\u0301 ẹ\u0300 ọ\u0300 ará fi tabi tàbí máa",
    "zu": "ukuthi futhi noma kanye kodwa uma ngoba abantu umuntu lapho manje kakhulu le lo "
    "ngesikhathi yini la lokho ngenxa kumele into izinto njengoba sekuyi ukuze khona nje "
    "bese kanti yebo ngeke wathi ngaphandle bonke zonke konke kuze nokho enye leli lesi "
    "leyo labo abafana izingane iminyaka umsebenzi izwe yakhe wakhe bakhe kuleli "
    "unkulunkulu njalo ngokuthi ngaleyo lena okuthi uthe",
    "ru": "и в не на что с по это как а но из у за то к от для же он она они так его все ее был "
    "было были мы вы я бы только или если уже еще при до может когда том есть нет очень "
    "время чтобы который которые которых этого также после году их где быть со под об "
    "более",
    "uk": "і в на з що не до у та за як це від для про по але він вона вони є був було були "
    "його її ми ви я або якщо вже ще при може коли те так тільки який яка які яких цього "
    "також після року їх де бути під більше через між всі усі цей ця ці щоб чи зі над із "
    "й",
    "be": "і ў у на з не што да як за па гэта ад для пра але ён яна яны ёсць быў было былі яго "
    "яе мы вы я або калі ўжо яшчэ пры можа так толькі які якая якія таксама пасля годзе "
    "дзе быць пад больш праз між усе гэты гэтая каб ці са над альбо год беларусі сваё "
    "паміж свае вельмі",
    "bg": "и на да в се за е от с не са по че а като това ще до при но му как или ли си ни съм "
    "той тя те бе беше са който която които също след година през още само много няма има "
    "във със този тази тези може когато към така между всички ме ги му й бил няма което "
    "защото ако",
    "mk": "и на да во се за е од со не ги го по што а како тоа ќе до при но му или ли си ни сум "
    "тој таа тие беше кој која кои исто после година низ уште само многу нема има овој "
    "оваа овие може кога кон така меѓу сите ме ја би бил дека најмногу каде според поради "
    "бидејќи ако ова им сите",
    "sr": "и у је се на да су за од који која које са као али из или био била било није шта што "
    "не то по како само има ће би када где такође према све године година овај ова док "
    "против између уз након због ка о те а његов њихов мора може више после међу један "
    "две јер ни нема",
    "kk": "және мен бен да де бұл ол үшін бір деп еді болып туралы деген осы сол ал оның бар "
    "жоқ емес болған қазақ қазақстан ғана кейін дейін арқылы бойынша жылы жыл қарай мен "
    "біз сіз олар не керек өз өзі барлық көп жаңа тиіс болады екен отыр ең адам қатар "
    "сондай та те пен",
    "mn": "нь юм бол энэ тэр байна ба ч би бид та тэд гэж гэсэн болон байсан бөгөөд бас их олон "
    "хүн монгол дээр доор хамт шүү биш байх байгаа уу үү вэ бэ аль мөн оны онд улсын улс "
    "ямар хийж гэхэд байдаг болох болсон учир манай өөр өөрийн зэрэг энд тийм л нэг хоёр",
    "ar": "في من على أن إلى التي عن لا ما هذا هذه الذي ذلك مع كان كل قد هو هي بعد لم بين أو كما "
    "إن عند قبل حيث منذ حتى ثم كانت غير لها له به وقد وفي وهو أي ولا يكون فيه تم خلال "
    "وكان دون بن و يا لكن عام",
    "fa": "و در به از که این را با است برای آن یک هم تا بر می های بود شد خود کرد شده ها اما او "
    "یا پس باید نیز آنها کند دارد ای هر چه اگر ما من شود بین پیش همه کرده چون دو سال روی "
    "دیگر نمی ایران بودند باشد کنید داشت بی آنان همین توان سازی",
    "ur": "کے میں کی ہے اور سے کا کو اس کہ ہیں نے پر یہ ہو بھی ایک نہیں تو تھا وہ کیا جو کر تھے "
    "تھی لئے لیے ان ہی جا رہا رہے رہی گیا گئی گئے دیا بعد ہوئے ہوا کوئی اپنے جس ہم آپ "
    "مجھے تک ساتھ کرنے ہوتا والے پاکستان وقت کچھ سکتا جب دی",
    "hi": "के में है की और से का को इस कि हैं ने पर यह हो भी एक नहीं तो था वह किया जो कर थे थी "
    "लिए ही जा रहा रहे गया गई अपने बाद हुए हुआ कोई उन जिस हम आप तक साथ करने होता वाले कुछ "
    "सकता जब या तथा द्वारा उनके इसके होती रूप बहुत में। है। हैं। था। उस मैं यदि",
    "mr": "आहे आणि या हे ते व तो ही की एक मध्ये नाही होते होता होती आहेत असे तर पण का साठी त्या "
    "त्यांच्या त्यांनी येथे केली केले केला झाली झाले झाला मात्र यांनी यांच्या त्याच्या "
    "असून काही अशा करून आपल्या जे ती हा मी तू आम्ही तुम्ही आहे. होते. म्हणून कारण किंवा "
    "सर्व येत असतो पुणे महाराष्ट्र च मला",
}  # fmt: skip

# Letters beyond a to z (or beyond those every language of the script has).
LETTERS = {
    "af": "êëôïî",
    "az": "əğışçöü",
    "bs": "čćžšđ",
    "ca": "àèéíòóúçïü·",
    "cs": "ěščřžýáíéůúňťď",
    "cy": "ŵŷâêîôûë",
    "da": "æøåé",
    "de": "äöüß",
    "en": "",
    "eo": "ĉĝĥĵŝŭ",
    "es": "ñáéíóúü¿¡",
    "et": "õäöüšž",
    "eu": "ñ",
    "fi": "äöå",
    "fr": "éèêàçùûôîœëïâ",
    "ga": "áéíóú",
    "hr": "čćžšđ",
    "hu": "őűáéíóöúü",
    "id": "",
    "is": "þðæöáéíóúý",
    "it": "àèéìòù",
    "la": "",
    "lg": "",
    "lt": "ąčęėįšųūž",
    "lv": "āčēģīķļņšūž",
    "mi": "āēīōū",
    "ms": "",
    "nb": "øåæé",
    "nl": "ëéïöè",
    "nn": "øåæòéêô",
    "pl": "ąćęłńóśźż",
    "pt": "ãõçáéíóúâêôà",
    "ro": "ăâîșțşţ",
    "sk": "ľĺŕäôčďňšťžýáéíóú",
    "sl": "čšž",
    "sn": "",
    "so": "",
    "sq": "ëç",
    "st": "š",
    "sv": "äöåé",
    "sw": "",
    "tl": "ñ",
    "tn": "šê",
    "tr": "ğışçöüâ",
    "ts": "",
    "vi": "ăâđêôơưạảấầẩẫậắằẳẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹàáãèéìíòóõùúýĩũ",
    "xh": "",
    "yo": "ẹọṣàáèéìíòóùúńǹ\u0300\u0301\u0323",
    "zu": "",
    "ru": "ёыэъщ",
    "uk": "іїєґщ",
    "be": "ўіёыэ",
    "bg": "ъщ",
    "mk": "ѓќѕјљњџ",
    "sr": "ђћјљњџ",
    "kk": "әғқңөұүһіёыэъщ",
    "mn": "өүёыэъщї",
    "ar": "ةىيكإأآؤئء",
    "fa": "پچژگکیآئ",
    "ur": "ٹڈڑںےہھپچگکیآئۓۂؤ",
    "hi": "",
    "mr": "ळ",
}  # fmt: skip

# Ends and beginnings of words that say more than chance; a star is the rest of the word.
AFFIXES = {
    "af": "*heid *lik *ing",
    "az": "*lər *lar *nın *nin *dir *dır *mış *də *dan *dən *ndə *lıq *ası",
    "bs": "*ije *ija *ovi *iti *irati",
    "ca": "*ció *ment *itat *ar *ons *ats *ques *és *ió *cions *tge",
    "cs": "*ých *ost *ní *ého *ů *ání *ích *ský *ovat *tí *ách *ění",
    "cy": "*au *wyd *odd *iad *io *aeth dd* ll* gw* *dd",
    "da": "*erne *hed *else *ede *tion *elig *ende",
    "de": "*ung *ungen *lich *keit *isch *schaft *en *ischen *er *heit *tion ge* *ern",
    "en": "*ing *tion *ed *ly *ness *ment *ity *ous *tions *ght",
    "eo": "*oj *ojn *aj *ajn *as *is *os *on *an *ita *ado *anta",
    "es": "*ción *mente *ado *dad *os *es *ando *iones *ía *ció",
    "et": "*mine *tud *sid *ud *use *ks *mise *ga *dest *tel *nud *des",
    "eu": "*aren *ak *tzen *ko *rik *tik *etan *ren *eko *ean *arekin *tza *tzeko *tako",
    "fi": "*ssa *ssä *sta *stä *nen *lla *llä *iin *ttu *isen *mista *vat *an *ää *lle *uus "
    "*jen *sen",
    "fr": "*tion *ment *eux *aient *ent *eur *ées *ions *ique *aux *ait",
    "ga": "*adh *acht *anna *ach *aidh *eann bh* mh* gc* dt* bhf* *igh *aí *ann",
    "hr": "*ije *ija *ovi *iti *irati",
    "hu": "*nak *nek *ban *ben *ból *ság *ség *tól *val *vel *ok *ek *ott *ett *ását *hoz",
    "id": "meng* me* ber* *nya *kan di* pe* ter* *an ke*",
    "is": "*inn *ið *num *ur *um *nar *ir *uðu *aði *inu *ar",
    "it": "*zione *mente *ato *ità *ere *are *etto *zioni *elli *ono *gli *io",
    "la": "*us *um *orum *ibus *arum *tur *ae *is *em *que *it *nt *unt *am *tis",
    "lg": "oku* aba* omu* eki* ebi* obu* ama* emi* olu* aka* bwa* nny* *ibwa",
    "lt": "*as *is *us *ų *ės *imas *iai *ti *ius *ose *oje *umo *ams *imo *ant",
    "lv": "*ības *āja *iem *ām *ija *ums *šana *anas *ajā *ās *ēja *āti *us *am *ot",
    "mi": "whaka* *tanga *hia *tia wh* ng*",
    "ms": "meng* me* ber* *nya *kan di* pe* ter* *an ke*",
    "nb": "*ene *het *else *ende *er *sjon *elig *ing",
    "nl": "*ing *heid *lijk *en *ijk *aar *oor *ing *ingen *eid ge* *tie *sch",
    "nn": "*ane *leik *ar *ande *sjon *leg *lege *ene *inga",
    "pl": "*ów *ych *nie *ość *ego *ach *ski *ął *ania *ami *cji *owy *rz *ie *wa",
    "pt": "*ção *ções *mente *ado *dade *ão *ões *inho *ais *eiro *ram *ém",
    "ro": "*ului *ilor *ul *ele *iei *ește *area *are *ții *ea *ile *esc *eşte *ate *lui",
    "sk": "*ých *osť *nie *ého *ov *ania *ách *ský *ovať *ť *ými *ou *enia",
    "sl": "*ega *ih *nje *ost *ov *anje *skih *ejo *ijo *ila *emu *ami *nih *cije *ati",
    "sn": "zvi* ku* va* mu* chi* ndi* ma* ri* nei* kwa* nhu* svi*",
    "so": "*aha *ayaa *kii *tii *iin *ada *aad *ay *aya *yay *sha *aan *eed *ka *ta *da dh*",
    "sq": "*it *ve *et *uar *ën *ës *ën *isht *imit *të *rë *in *ën",
    "st": "ho* *ng *tse mo* di* *eng tlh* *elo hl* *tso *isa",
    "sv": "*ar *er *na *ning *het *ande *ade *igt *ens *erna *tion *orna *arna *lig",
    "sw": "ku* wa* ali* ana* ili* ki* vi* m* *isha *wa u* mw* *ji",
    "tl": "nag* mag* *ng ka* pag* pin* *han *in *an ma* na*",
    "tn": "go* *ng *tse mo* di* tlh* *eng *elo *tswe dik* kg* tsh*",
    "tr": "*lar *ler *nın *nin *dır *mış *mek *mak *yor *lık *dan *den *nde *ları *leri *ının "
    "*sına",
    "ts": "ku* swi* xi* mi* va* n* ti* hl* ndz* *eni vu* swin* *ana",
    "xh": "uku* izi* aba* nge* kwe* ama* ndi* imi* eku* nga* oku* *wa *yo um* esi* kwi* wo* "
    "*isa",
    "zu": "uku* izi* aba* nge* ama* imi* eku* nga* oku* *wa *yo um* kwe* ngo* uku* esi* iso* "
    "nase* kule* *ini njenge* *ile",
    "yo": "*wọn gb* ọ* ẹ* à* ì*",
    "vi": "ng* nh* th* tr* kh* *nh *ng ph*",
    "ru": "*ого *ение *ость *ся *ать *ой *ый *ах *ых *ий *ии *ться",
    "uk": "*ого *ння *ість *ся *ати *ої *ий *ах *их *ії *ські *ться",
    "be": "*ага *нне *асць *ца *аць *ай *ы *ах *ых *іі *цца *ыя *скі",
    "bg": "*та *то *ят *ите *ване *ия *ски *ни *ше *ове *ата",
    "mk": "*та *то *от *ите *ње *ија *ски *ни *ше *ови *ата *увањe",
    "sr": "*ог *ије *ост *ити *ом *их *ска *ање *има *ова *ски *ало",
    "kk": "*лар *лер *дың *дің *ған *ген *нда *нің *ның *лық *мен *тар *дер",
    "mn": "*ын *ийн *ууд *сан *сэн *даг *гаа *аар *ыг *ийг *лаа *хад",
    "ar": "ال* وال* بال* لل* *ات *ون *ين *ية",
    "fa": "می* *های *ها *ند *تر *ای *ان *اند *شود",
    "ur": "*وں *یں *نے *یا *ئے *ؤں *گے",
    "hi": "*ों *ना *ने *ता *कर *ीय *ें *ाओं",
    "mr": "*च्या *ला *त *ने *ली *ाचे *ाची *ांना *ून *ात *ील *ण्यात",
}  # fmt: skip
